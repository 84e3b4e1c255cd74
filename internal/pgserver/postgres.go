// Package pgserver runs Postgres and PgBouncer as child processes from the
// machine's own packages, as an unprivileged user when we are root. The
// development fleet and the tests stand on it; production brings its own servers.
//
// Import law: of this module, pgserver imports internal packages only.
package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/process"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/sleep"
)

// Config describes one Postgres server on the loopback interface.
type Config struct {
	// Dir keeps everything of this server. If the server's account can't reach
	// it, the state is kept below /var/tmp and Dir records where.
	Dir string
	// Port to listen on; 0 takes a free one.
	Port int
	// Superuser is the bootstrap login; default "freehold_admin".
	Superuser string
	// Password of the superuser. Required.
	Password string
	// BinDir is where postgres and initdb are; default [BinDir]'s. The data of one
	// major version can't be opened by another's.
	BinDir string
	// Settings are written to freehold.conf at each start, e.g. "wal_level": "logical".
	Settings map[string]string
	// HBA are the lines of pg_hba.conf; default [OpenHBA]. See [HBA.Lines].
	HBA []string
	// TLS, if given, has the server offer TLS; that it refuses all else is said by HBA.
	TLS *TLS
	// FastUnsafe gives up durability, and passwords that are dear to guess, for
	// speed: for tests that throw the data away.
	FastUnsafe bool
	// DieWithParent ends the server when our process dies (on Linux).
	DieWithParent bool
	// LogFile is appended to; default "postgres.log" in the state directory.
	LogFile string
	// StartTimeout bounds how long Start waits, crash recovery included; default 60 s.
	StartTimeout time.Duration
}

// Postgres is one server. Its methods are for one goroutine at a time, except
// Pid, Done and Kill.
type Postgres struct {
	guarded
	cfg   Config
	place place
	port  int
	fresh bool // made by us, and not started yet
}

// New prepares the state directory and finds where it is; it starts nothing.
func New(cfg Config) (*Postgres, error) {
	if cfg.Superuser == "" {
		cfg.Superuser = "freehold_admin"
	}
	if cfg.Password == "" {
		return nil, errors.New("postgres: a password is required")
	}
	if cfg.StartTimeout == 0 {
		cfg.StartTimeout = time.Minute
	}
	if cfg.HBA == nil {
		cfg.HBA = OpenHBA()
	}
	pl, err := newPlace(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if cfg.LogFile == "" {
		cfg.LogFile = filepath.Join(pl.dir, "postgres.log")
	}
	return &Postgres{cfg: cfg, place: pl, port: cfg.Port}, nil
}

// program is one of the server's own programs.
func (p *Postgres) program(name string) (string, error) {
	if p.cfg.BinDir == "" {
		return Program(name)
	}
	return programIn(p.cfg.BinDir, name)
}

// major is the version that the data was made by; 0: there is none yet.
func (p *Postgres) major() int {
	b, err := os.ReadFile(filepath.Join(p.data(), "PG_VERSION"))
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return n
}

func (p *Postgres) data() string { return filepath.Join(p.place.dir, "data") }

// Init creates the cluster unless it is there already. One that an earlier,
// interrupted Init left half-made is made anew.
func (p *Postgres) Init(ctx context.Context) error {
	ready := filepath.Join(p.place.dir, "initialised")
	if _, err := os.Stat(ready); err == nil {
		return nil
	}
	if err := os.RemoveAll(p.data()); err != nil {
		return err
	}
	initdb, err := p.program("initdb")
	if err != nil {
		return err
	}
	if err := p.place.write("pw", p.cfg.Password+"\n"); err != nil {
		return err
	}
	pwfile := filepath.Join(p.place.dir, "pw")
	defer os.Remove(pwfile) //nolint:errcheck // removed again at the next Init if not now
	ctype := "C.UTF-8"
	if runtime.GOOS == "darwin" {
		ctype = "UTF-8"
	}
	args := []string{"-D", p.data(), "-U", p.cfg.Superuser, "-A", "scram-sha-256", "--pwfile", pwfile,
		"-E", "UTF8", "--locale=C", "--lc-ctype=" + ctype, "--no-instructions"}
	if p.cfg.FastUnsafe {
		args = append(args, "--no-sync")
	}
	if _, err := p.place.command(initdb, args...).Run(ctx); err != nil {
		return err
	}
	conf, err := os.OpenFile(filepath.Join(p.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = conf.WriteString("\ninclude_if_exists = '../freehold.conf'\n")
	if err := errors.Join(err, conf.Close()); err != nil {
		return err
	}
	p.fresh = true
	return p.place.write("initialised", time.Now().UTC().Format(time.RFC3339)+"\n")
}

func (p *Postgres) settings() map[string]string {
	s := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": p.place.sockets,
		"hba_file":                filepath.Join(p.place.dir, "hba.conf"),
		"password_encryption":     "scram-sha-256",
		"logging_collector":       "off",
		"log_line_prefix":         "%m [%p] %u@%d ",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
	}
	if p.cfg.FastUnsafe {
		// synchronous_commit stays on: a walsender sends only what is flushed,
		// and without fsync a flush costs nothing.
		s["fsync"], s["full_page_writes"] = "off", "off"
	}
	if p.cfg.TLS != nil {
		maps.Copy(s, p.place.postgresTLS())
	}
	maps.Copy(s, p.cfg.Settings)
	if slots, ok := s["max_replication_slots"]; ok && p.major() >= 18 {
		// Until 17 that setting bounded what subscriptions need, too.
		s["max_active_replication_origins"] = slots
	}
	s["port"] = strconv.Itoa(p.port)
	return s
}

func (p *Postgres) configure() error {
	var b strings.Builder
	b.WriteString("# Written at each start.\n")
	s := p.settings()
	for _, k := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "%s = '%s'\n", k, strings.ReplaceAll(s[k], "'", "''"))
	}
	return errors.Join(
		p.place.prepareSockets(),
		p.place.install(p.cfg.TLS),
		p.place.write("freehold.conf", b.String()),
		p.place.write("hba.conf", strings.Join(p.cfg.HBA, "\n")+"\n"),
	)
}

// Start starts the server and returns when it answers. A server that an
// earlier life of ours left running in the directory is stopped first, a
// stale postmaster.pid is removed. It fails with [ErrPortInUse] if the port
// asked for is taken, else with the end of the server's log.
func (p *Postgres) Start(ctx context.Context) error {
	if p.Pid() != 0 {
		return nil
	}
	if err := p.Evict(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.StartTimeout)
	defer cancel()
	for attempt := 0; ; attempt++ {
		err := p.startOnce(ctx)
		switch {
		case err == nil:
			return p.started(ctx)
		case errors.Is(err, errOrphans) && attempt < 50:
			// Sessions of a killed postmaster notice its death and go; wait for them.
			if serr := sleep.For(ctx, 200*time.Millisecond); serr != nil {
				return err
			}
		case errors.Is(err, ErrPortInUse) && p.cfg.Port == 0 && attempt < 50:
			p.port = 0
		default:
			return err
		}
	}
}

// started sees to what is to be done once in a server's life.
func (p *Postgres) started(ctx context.Context) error {
	if !p.fresh || !p.cfg.FastUnsafe {
		return nil
	}
	verifier, err := pg.QuickVerifier(p.cfg.Password)
	if err != nil {
		return nil //nolint:nilerr // initdb took the password as it is, which will do
	}
	conn, err := pgconn.Connect(ctx, p.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is lost with it
	if _, err := conn.Exec(ctx, "ALTER ROLE "+pg.Ident(p.cfg.Superuser)+" PASSWORD '"+verifier+"'").ReadAll(); err != nil {
		return err
	}
	p.fresh = false
	return nil
}

// errOrphans: sessions of a postmaster that was killed still hold its shared memory.
var errOrphans = errors.New("sessions of the killed server are still there")

func (p *Postgres) startOnce(ctx context.Context) error {
	if p.port == 0 {
		port, err := process.FreePort()
		if err != nil {
			return err
		}
		p.port = port
	} else if !process.PortFree(p.port) {
		return fmt.Errorf("postgres: port %d: %w", p.port, ErrPortInUse)
	}
	if err := p.configure(); err != nil {
		return err
	}
	path, err := p.program("postgres")
	if err != nil {
		return err
	}
	cmd := p.place.command(path, "-D", p.data())
	cmd.Log = p.cfg.LogFile
	if p.cfg.DieWithParent {
		cmd.DieWith = syscall.SIGQUIT // ends all sessions too; SIGKILL would leave them
	}
	mark := process.LogMark(p.cfg.LogFile)
	proc, err := cmd.Start()
	if err != nil {
		return err
	}
	p.set(proc)
	if err := waitReady(ctx, proc, p.DSN("postgres")); err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = proc.Stop(stopCtx, syscall.SIGQUIT, syscall.SIGKILL)
		tail := process.LogTail(p.cfg.LogFile, mark)
		switch {
		case process.LostPort(tail):
			return fmt.Errorf("postgres: port %d: %w", p.port, ErrPortInUse)
		case strings.Contains(tail, "pre-existing shared memory block"):
			return fmt.Errorf("postgres in %s: %w", p.place.dir, errOrphans)
		}
		return fmt.Errorf("postgres in %s did not start: %w; its log ends:\n%s", p.place.dir, err, tail)
	}
	return nil
}

// waitReady polls until a session can be opened, the process ends, or ctx does.
func waitReady(ctx context.Context, proc *process.Process, dsn string) error {
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		conn, err := pgconn.Connect(try, dsn)
		if err == nil {
			_ = conn.Close(try)
		}
		cancel()
		if err == nil {
			return nil
		}
		if strings.HasPrefix(pg.Code(err), "28") { // refused, not unready: waiting will not help
			return err
		}
		select {
		case <-proc.Done():
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("not ready in time: %w (last: %w)", ctx.Err(), err)
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// errEnded: the process ended before it answered.
var errEnded = errors.New("it ended by itself")

// TLSDir is the directory with the server's own TLS files, named as
// [pg.ServerCAFile] and its like; empty without TLS.
func (p *Postgres) TLSDir() string { return p.place.tlsDir(p.cfg.TLS) }

// Renew has the server use the TLS files that were given to it as they are now.
// Sessions stay as they are.
func (p *Postgres) Renew() error {
	return p.renew(p.place, p.cfg.TLS)
}

// Stop ends all sessions and shuts the server down cleanly ("fast" shutdown).
// When ctx ends first it is shut down at once and recovers at the next start.
// Stopping what does not run is no error.
func (p *Postgres) Stop(ctx context.Context) error {
	proc := p.get()
	if proc == nil {
		return nil
	}
	return proc.Stop(ctx, syscall.SIGINT, syscall.SIGQUIT)
}

// Abort shuts the server down at once; it recovers at the next start. Unlike
// after Kill, no session outlives it.
func (p *Postgres) Abort(ctx context.Context) error {
	proc := p.get()
	if proc == nil {
		return nil
	}
	return proc.Stop(ctx, syscall.SIGQUIT, syscall.SIGKILL)
}

// Evict ends a server that an earlier life of ours left running in Dir.
func (p *Postgres) Evict(ctx context.Context) error { return evictPostgres(ctx, p.place) }

// EvictPostgres ends the Postgres server that an earlier life of ours left running in dir, if any.
func EvictPostgres(ctx context.Context, dir string) error {
	pl, err := newPlace(dir)
	if errors.Is(err, ErrStateGone) {
		return nil
	}
	if err != nil {
		return err
	}
	return evictPostgres(ctx, pl)
}

func evictPostgres(ctx context.Context, pl place) error {
	data := filepath.Join(pl.dir, "data")
	return process.Evict(ctx, filepath.Join(data, "postmaster.pid"), data, syscall.SIGINT, syscall.SIGQUIT)
}

// Destroy stops the server and removes its state for good.
func (p *Postgres) Destroy(ctx context.Context) error {
	err := errors.Join(p.Stop(ctx), p.Evict(ctx))
	if err != nil {
		return err
	}
	return p.place.destroy()
}

// Port is the port it listens on, known after Start.
func (p *Postgres) Port() int { return p.port }

// Host is the address it listens on.
func (p *Postgres) Host() string { return "127.0.0.1" }

// SocketDir is the directory of its unix socket.
func (p *Postgres) SocketDir() string { return p.place.sockets }

// Superuser is the name of its bootstrap login.
func (p *Postgres) Superuser() string { return p.cfg.Superuser }

// DSN is a URL with the superuser's login, for the named database. It holds the password.
func (p *Postgres) DSN(database string) string {
	return p.LoginDSN(secret.Login{User: p.cfg.Superuser, Password: p.cfg.Password}, database)
}

// LoginDSN is a URL for a login, for the named database. It holds the password.
func (p *Postgres) LoginDSN(l secret.Login, database string) string {
	return dsn(l, p.Host(), p.port, database, p.cfg.TLS)
}

// dsn is a URL for a login to a server of ours. It holds the password.
func dsn(l secret.Login, host string, port int, database string, files *TLS) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(l.User, l.Password),
		Host: net.JoinHostPort(host, strconv.Itoa(port)), Path: "/" + database, RawQuery: files.query()}
	return u.String()
}

// exists tells a missing file from every other trouble.
func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
