package pgserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/process"
	"github.com/freehold-db/freehold/internal/secret"
)

// LookupQuery is what PgBouncer asks a tenant's database about a login that it does not know.
const LookupQuery = "SELECT usename, passwd FROM freehold.lookup($1)"

// BouncerConfig describes one PgBouncer in front of one Postgres.
type BouncerConfig struct {
	// Dir keeps everything of it; see [Config.Dir].
	Dir string
	// Port to listen on; 0 takes a free one.
	Port int
	// BackendHost and BackendPort name the Postgres behind it; the host may be a directory of a unix socket.
	BackendHost string
	BackendPort int
	// Auth is the login that runs [LookupQuery] in a tenant's database; default user "freehold_bouncer".
	Auth secret.Login
	// Admin is the login of the console; default user "freehold_bouncer_admin".
	Admin secret.Login
	// Known are further logins that it checks itself instead of looking them up, such as the superuser.
	Known []secret.Login
	// Lookups bounds the connections that Auth has to all databases together; default 32.
	Lookups int
	// Settings of the section [pgbouncer] that replace or add to ours.
	Settings map[string]string
	// TLS, if given, has clients show certificates of its roots and speak TLS, and
	// Postgres do both, too, unless it is reached by a unix socket.
	TLS *TLS
	// FastUnsafe keeps passwords that are easier to guess, so that logins cost less: for tests.
	FastUnsafe bool
	// DieWithParent ends it when our process dies (on Linux).
	DieWithParent bool
	// LogFile is appended to; default "pgbouncer.log" in the state directory.
	LogFile string
}

// Bouncer is one PgBouncer in transaction pooling, with one wildcard entry for
// all databases of its Postgres and a file of explicit routes before it. Its
// methods are for one goroutine at a time, except Pid, Done and Kill.
type Bouncer struct {
	guarded
	cfg   BouncerConfig
	place place
	port  int
}

// NewBouncer prepares the state directory; it starts nothing.
func NewBouncer(cfg BouncerConfig) (*Bouncer, error) {
	if cfg.Auth.User == "" {
		cfg.Auth.User = "freehold_bouncer"
	}
	if cfg.Admin.User == "" {
		cfg.Admin.User = "freehold_bouncer_admin"
	}
	if cfg.Auth.Password == "" || cfg.Admin.Password == "" {
		return nil, errors.New("pgbouncer: passwords of the auth and admin logins are required")
	}
	pl, err := newPlace(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if cfg.LogFile == "" {
		cfg.LogFile = filepath.Join(pl.dir, "pgbouncer.log")
	}
	return &Bouncer{cfg: cfg, place: pl, port: cfg.Port}, nil
}

// lookups is more than a PgBouncer does at once, unless some of them hang.
const lookups = 32

const (
	iniFile = "pgbouncer.ini"
	pidFile = "pgbouncer.pid"
)

func (b *Bouncer) iniFile() string { return filepath.Join(b.place.dir, iniFile) }

// RoutesFile is the file of explicit entries, included in PgBouncer's section
// [databases] before the wildcard. It holds no secret. Whoever replaces it
// must leave it readable to PgBouncer's account (mode 0644; the directory
// around it is private), then say RELOAD on the console.
func (b *Bouncer) RoutesFile() string { return filepath.Join(b.place.dir, "routes", "routes.ini") }

func (b *Bouncer) configure() error {
	set := [][2]string{
		{"listen_addr", "127.0.0.1"},
		{"listen_port", fmt.Sprint(b.port)},
		{"unix_socket_dir", b.place.sockets},
		{"pidfile", b.pidFile()},
		{"auth_type", "scram-sha-256"},
		{"auth_file", filepath.Join(b.place.dir, "userlist.txt")},
		{"auth_query", LookupQuery},
		{"admin_users", b.cfg.Admin.User},
		{"pool_mode", "transaction"},
		{"max_client_conn", "5000"},
		{"default_pool_size", "20"},
		// After a refused login (a fence) clients are turned away until one login
		// was tried again, and it is tried at most this often, in seconds.
		{"server_login_retry", "0.1"},
		{"server_connect_timeout", "5"},
		// Half of the 10 s for which the router looks again: one who waits in vain
		// at the old place still has as long to be served at the new one.
		{"query_wait_timeout", "5"},
		// Each tenant that was served since has a backend: what Postgres' max_connections
		// are for must not be those of before.
		{"server_idle_timeout", "20"},
		{"ignore_startup_parameters", "extra_float_digits"},
		{"log_connections", "0"},
		{"log_disconnections", "0"},
	}
	if b.cfg.TLS != nil {
		set = append(set, b.place.bouncerTLS()...)
	}
	var ini strings.Builder
	fmt.Fprintf(&ini, "; Written at each start.\n[databases]\n%%include %s\n* = host=%s port=%d auth_user=%s\n\n[pgbouncer]\n",
		b.RoutesFile(), b.cfg.BackendHost, b.cfg.BackendPort, b.cfg.Auth.User)
	for _, kv := range set {
		if _, replaced := b.cfg.Settings[kv[0]]; !replaced {
			fmt.Fprintf(&ini, "%s = %s\n", kv[0], kv[1])
		}
	}
	for k, v := range b.cfg.Settings {
		fmt.Fprintf(&ini, "%s = %s\n", k, v)
	}
	// A lookup of a login leaves a connection to its database behind, as many as
	// tenants have. With a bound PgBouncer closes an idle one for the next.
	fmt.Fprintf(&ini, "\n[users]\n%s = max_user_connections=%d\n", b.cfg.Auth.User, cmp.Or(b.cfg.Lookups, lookups))
	// PgBouncer must log in to Postgres as Auth, so it needs that password; of
	// Admin a verifier is enough, and cheaper at each login.
	verifierOf := pg.ScramVerifier
	if b.cfg.FastUnsafe {
		verifierOf = pg.QuickVerifier
	}
	verifier, err := verifierOf(b.cfg.Admin.Password)
	if err != nil {
		return fmt.Errorf("pgbouncer: admin password: %w", err)
	}
	users := userLine(b.cfg.Admin.User, verifier) + userLine(b.cfg.Auth.User, b.cfg.Auth.Password)
	for _, l := range b.cfg.Known {
		users += userLine(l.User, l.Password)
	}
	return errors.Join(
		b.place.prepareSockets(),
		b.prepareRoutes(),
		b.place.install(b.cfg.TLS),
		b.place.write(iniFile, ini.String()),
		b.place.write("userlist.txt", users),
	)
}

// prepareRoutes makes an empty routes file unless there is one: what is in it
// belongs to the control plane.
func (b *Bouncer) prepareRoutes() error {
	dir := filepath.Dir(b.RoutesFile())
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	if err := b.place.acct.own(dir); err != nil {
		return err
	}
	there, err := exists(b.RoutesFile())
	if err != nil || there {
		return err
	}
	if err := os.WriteFile(b.RoutesFile(), nil, 0o644); err != nil { //nolint:gosec // holds no secret
		return err
	}
	return b.place.acct.own(b.RoutesFile())
}

func userLine(user, password string) string {
	quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
	return quote(user) + " " + quote(password) + "\n"
}

func (b *Bouncer) pidFile() string { return filepath.Join(b.place.dir, pidFile) }

// Evict ends a PgBouncer that an earlier life of ours left running in Dir.
func (b *Bouncer) Evict(ctx context.Context) error { return evictBouncer(ctx, b.place) }

// EvictBouncer ends the PgBouncer that an earlier life of ours left running in dir, if any.
func EvictBouncer(ctx context.Context, dir string) error {
	pl, err := newPlace(dir)
	if errors.Is(err, ErrStateGone) {
		return nil
	}
	if err != nil {
		return err
	}
	return evictBouncer(ctx, pl)
}

func evictBouncer(ctx context.Context, pl place) error {
	return process.Evict(ctx, filepath.Join(pl.dir, pidFile), filepath.Join(pl.dir, iniFile), syscall.SIGTERM, syscall.SIGKILL)
}

// Start starts PgBouncer and returns when its console answers. It fails with
// [ErrPortInUse] if the port asked for is taken, else with the end of its log.
func (b *Bouncer) Start(ctx context.Context) error {
	if b.Pid() != 0 {
		return nil
	}
	if err := b.Evict(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for attempt := 0; ; attempt++ {
		err := b.startOnce(ctx)
		if errors.Is(err, ErrPortInUse) && b.cfg.Port == 0 && attempt < 50 {
			b.port = 0
			continue
		}
		return err
	}
}

func (b *Bouncer) startOnce(ctx context.Context) error {
	if b.port == 0 {
		port, err := process.FreePort()
		if err != nil {
			return err
		}
		b.port = port
	} else if !process.PortFree(b.port) {
		return fmt.Errorf("pgbouncer: port %d: %w", b.port, ErrPortInUse)
	}
	if err := b.configure(); err != nil {
		return err
	}
	path, err := BouncerPath()
	if err != nil {
		return err
	}
	// PgBouncer does not raise its own limit of open files; a shell can, and
	// exec keeps the pid.
	cmd := b.place.command("/bin/sh", "-c", `ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"; exec "$0" -q "$1"`, path, b.iniFile())
	cmd.Log = b.cfg.LogFile
	if b.cfg.DieWithParent {
		cmd.DieWith = syscall.SIGTERM
	}
	mark := process.LogMark(b.cfg.LogFile)
	proc, err := cmd.Start()
	if err != nil {
		return err
	}
	b.set(proc)
	if err := waitReady(ctx, proc, b.AdminDSN()); err != nil {
		_ = b.Kill()
		tail := process.LogTail(b.cfg.LogFile, mark)
		if process.LostPort(tail) {
			return fmt.Errorf("pgbouncer: port %d: %w", b.port, ErrPortInUse)
		}
		return fmt.Errorf("pgbouncer in %s did not start: %w; its log ends:\n%s", b.place.dir, err, tail)
	}
	return nil
}

// Stop ends it at once; client connections are closed. Stopping what does not run is no error.
func (b *Bouncer) Stop(ctx context.Context) error {
	proc := b.get()
	if proc == nil {
		return nil
	}
	return proc.Stop(ctx, syscall.SIGTERM, syscall.SIGKILL)
}

// Destroy stops it and removes its state for good.
func (b *Bouncer) Destroy(ctx context.Context) error {
	if err := errors.Join(b.Stop(ctx), b.Evict(ctx)); err != nil {
		return err
	}
	return b.place.destroy()
}

// Host is the address it listens on.
func (b *Bouncer) Host() string { return "127.0.0.1" }

// Port is the port it listens on, known after Start.
func (b *Bouncer) Port() int { return b.port }

// SocketDir is the directory of its unix socket.
func (b *Bouncer) SocketDir() string { return b.place.sockets }

// Renew has PgBouncer use the TLS files that were given to it as they are now.
// Clients stay as they are; connections to servers are made anew as they fall free.
func (b *Bouncer) Renew() error {
	return b.renew(b.place, b.cfg.TLS)
}

// AdminDSN is a URL of the console with the admin login. It holds the password.
// The console speaks the simple protocol only.
func (b *Bouncer) AdminDSN() string {
	return b.DSN(b.cfg.Admin, "pgbouncer")
}

// DSN is a URL for a login to a database through this PgBouncer.
func (b *Bouncer) DSN(l secret.Login, database string) string {
	return dsn(l, b.Host(), b.port, database, b.cfg.TLS)
}
