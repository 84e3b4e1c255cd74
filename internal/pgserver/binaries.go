package pgserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// ErrNotInstalled is wrapped when Postgres or PgBouncer cannot be found on this machine.
var ErrNotInstalled = errors.New("not installed")

// EnvBinDir names the environment variable that, set to a directory or to a
// list of them as PATH is, says where alone Postgres's programs are looked for.
const EnvBinDir = "FREEHOLD_PG_BINDIR"

// required are the programs that make a directory a Postgres bin directory.
var required = []string{"postgres", "initdb", "pg_dump", "psql"}

// BinDir finds the directory with Postgres's server programs: in
// $FREEHOLD_PG_BINDIR if set, else in PATH, where pg_config points, and where
// Debian, Red Hat and Homebrew put them (newest first). It fails with [ErrNotInstalled].
var BinDir = sync.OnceValues(findBinDir)

func findBinDir() (string, error) {
	named := os.Getenv(EnvBinDir)
	for _, dir := range candidates() {
		if complete(dir) {
			return dir, nil
		}
	}
	if named != "" {
		return "", fmt.Errorf("%w: %s=%s has not all of %s", ErrNotInstalled, EnvBinDir, named, strings.Join(required, ", "))
	}
	return "", fmt.Errorf("postgres server: %w (looked in PATH, pg_config --bindir, /usr/lib/postgresql/*/bin, /usr/pgsql-*/bin, Homebrew; run deploy/install/deps.sh or set %s)", ErrNotInstalled, EnvBinDir)
}

// ClientDirs lists the directories that have pg_dump and pg_restore, one major
// version's or several', as [BinDir] looks for the server's.
func ClientDirs() []string {
	dirs := candidates()
	if p, err := exec.LookPath("pg_dump"); err == nil && os.Getenv(EnvBinDir) == "" {
		dirs = append(dirs, filepath.Dir(p)) // a machine with the client programs alone
	}
	var have []string
	for _, dir := range dirs {
		if !slices.Contains(have, dir) && HasClients(dir) {
			have = append(have, dir)
		}
	}
	return have
}

// HasClients tells whether the directory has pg_dump and pg_restore.
func HasClients(dir string) bool { return has(dir, "pg_dump") && has(dir, "pg_restore") }

func candidates() []string {
	if named := os.Getenv(EnvBinDir); named != "" {
		return filepath.SplitList(named)
	}
	var dirs []string
	if p, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	if p, err := exec.LookPath("pg_config"); err == nil {
		if out, err := exec.Command(p, "--bindir").Output(); err == nil { //nolint:noctx // answers at once, before anything is running
			dirs = append(dirs, strings.TrimSpace(string(out)))
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
	} {
		found, _ := filepath.Glob(pattern) // the pattern is a constant
		slices.SortFunc(found, func(a, b string) int { return majorIn(b) - majorIn(a) })
		dirs = append(dirs, found...)
	}
	return dirs
}

// majorIn reads the version out of a path such as /usr/lib/postgresql/15/bin.
func majorIn(path string) int {
	best := 0
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' }) {
		if n, err := strconv.Atoi(part); err == nil && n > best {
			best = n
		}
	}
	return best
}

func complete(dir string) bool {
	for _, name := range required {
		if !has(dir, name) {
			return false
		}
	}
	return true
}

func has(dir, name string) bool {
	st, err := os.Stat(filepath.Join(dir, name))
	return err == nil && !st.IsDir()
}

// Program returns the path of one of Postgres's own programs, such as pg_dump.
func Program(name string) (string, error) {
	dir, err := BinDir()
	if err != nil {
		return "", err
	}
	return programIn(dir, name)
}

func programIn(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s: %w in %s", name, ErrNotInstalled, dir)
	}
	return path, nil
}

// BouncerPath finds the pgbouncer program, or fails with [ErrNotInstalled].
func BouncerPath() (string, error) {
	if p, err := exec.LookPath("pgbouncer"); err == nil {
		return p, nil
	}
	places := []string{"/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/sbin/pgbouncer"}
	if runtime.GOOS == "darwin" {
		places = append(places, "/opt/homebrew/bin/pgbouncer", "/usr/local/bin/pgbouncer")
	}
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("pgbouncer: %w (looked in PATH and %s; run deploy/install/deps.sh)", ErrNotInstalled, strings.Join(places, ", "))
}
