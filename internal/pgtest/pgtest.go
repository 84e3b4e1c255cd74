// Package pgtest gives tests real Postgres servers: one per test binary with a
// fresh database for each test, and whole shards (Postgres with PgBouncer)
// where a test needs its own. Servers start on first use, on free ports, in
// private directories, and are gone when the test binary ends, however it ends.
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// Import law: of this module, pgtest imports internal packages only.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/internal/pki"
	"github.com/freehold-db/freehold/internal/secret"
)

const (
	startFor  = 3 * time.Minute
	stopFor   = time.Minute
	statement = time.Minute
)

// harness is the state of one test binary.
type harness struct {
	dir  string
	auth secret.Login // of every shard's PgBouncer

	mu     sync.Mutex
	server *pgserver.Postgres
	err    error
	shards map[string]*ShardServer

	ca        sync.Once
	authority *pki.Authority
	caErr     error

	newest    sync.Once
	newestDir string
	newestErr error
}

var current atomic.Pointer[harness]

// Main runs the tests of a package and ends the process with their result.
// Call it from TestMain.
func Main(m *testing.M) { os.Exit(Run(m.Run)) }

// Run is Main for a TestMain that has more to do: it calls run, stops what was
// started meanwhile, and returns run's code.
func Run(run func() int) int {
	sweep()
	dir, err := NewDir()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return 1
	}
	h := &harness{dir: dir, auth: secret.Login{User: "freehold_bouncer", Password: pg.NewPassword()}, shards: map[string]*ShardServer{}}
	current.Store(h)
	code := run()
	if err := h.close(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	return code
}

// sweep removes what test binaries left that were killed.
func sweep() {
	for _, dir := range everyDir() {
		pidText, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
		pid, err := strconv.Atoi(pidText)
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir) // somebody else's, or gone already: not ours to mind
		}
	}
}

func (h *harness) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopFor)
	defer cancel()
	h.mu.Lock()
	defer h.mu.Unlock()
	var err error
	for _, s := range h.shards {
		err = errors.Join(err, s.close(ctx))
	}
	if h.server != nil {
		err = errors.Join(err, h.server.Abort(ctx))
	}
	return errors.Join(err, os.RemoveAll(h.dir))
}

func mine(t testing.TB) *harness {
	t.Helper()
	h := current.Load()
	if h == nil {
		t.Fatal("pgtest: TestMain must call pgtest.Main(m)")
	}
	return h
}

// Server returns the test binary's own Postgres, with logical replication
// possible and durability off. Tests share it: touch only what you created.
func Server(t testing.TB) *pgserver.Postgres {
	t.Helper()
	h := mine(t)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.server == nil && h.err == nil {
		h.server, h.err = h.startServer()
	}
	if h.err != nil {
		t.Fatalf("pgtest: %v", h.err)
	}
	return h.server
}

func (h *harness) startServer() (*pgserver.Postgres, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startFor)
	defer cancel()
	settings := pgserver.ShardSettings()
	settings["max_connections"] = "300"
	settings["shared_buffers"] = "64MB"
	return start(ctx, pgserver.Config{Dir: filepath.Join(h.dir, "pg"), Password: pg.NewPassword(),
		Settings: settings, FastUnsafe: true, DieWithParent: true})
}

func start(ctx context.Context, cfg pgserver.Config) (*pgserver.Postgres, error) {
	p, err := pgserver.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := p.Init(ctx); err != nil {
		return nil, err
	}
	return p, p.Start(ctx)
}

var databases atomic.Int64

// Database returns the URL of a fresh, empty database on [Server], opened as
// superuser. It is dropped, sessions or not, when the test ends.
func Database(t testing.TB) (dsn string) {
	t.Helper()
	s := Server(t)
	name := fmt.Sprintf("test_%d", databases.Add(1))
	if err := onServer(s, "CREATE DATABASE "+pg.Ident(name)+" TEMPLATE template0"); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := onServer(s, "DROP DATABASE IF EXISTS "+pg.Ident(name)+" WITH (FORCE)"); err != nil {
			t.Logf("pgtest: %v", err)
		}
	})
	return s.DSN(name)
}

func onServer(s *pgserver.Postgres, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), statement)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is lost with it
	_, err = conn.Exec(ctx, sql)
	return err
}
