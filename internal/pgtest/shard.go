package pgtest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/internal/secret"
)

// ShardServer is a Postgres with the PgBouncer in front of it, as a shard has
// them, before Freehold has prepared anything on it but the role freehold_bouncer.
type ShardServer struct {
	Postgres *pgserver.Postgres
	Bouncer  *pgserver.Bouncer
	// Admin is the superuser freehold_admin.
	Admin secret.Login
	// Console is the login of PgBouncer's console.
	Console secret.Login
	// Auth is the login freehold_bouncer, which runs PgBouncer's lookups. All
	// shards share it: after a move one shard's PgBouncer logs in at another's Postgres.
	Auth secret.Login
}

// PGPort is the port of Postgres itself, on [ShardServer.Host].
func (s *ShardServer) PGPort() uint16 { return uint16(s.Postgres.Port()) } //nolint:gosec // a port

// BouncerPort is the port of PgBouncer, on [ShardServer.Host].
func (s *ShardServer) BouncerPort() uint16 { return uint16(s.Bouncer.Port()) } //nolint:gosec // a port

// Host is where both listen.
func (s *ShardServer) Host() string { return s.Postgres.Host() }

// RoutesFile is PgBouncer's file of explicit entries.
func (s *ShardServer) RoutesFile() string { return s.Bouncer.RoutesFile() }

var shards atomic.Int64

// BouncerSettings replace or add to those of every PgBouncer that is started
// from now on. For a TestMain, before it calls [Main].
var BouncerSettings map[string]string

// Shard starts a shard of the test's own; it is stopped and removed when the test ends.
func Shard(t testing.TB) *ShardServer {
	t.Helper()
	s, err := mine(t).startShard("")
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopFor)
		defer cancel()
		if err := s.close(ctx); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return s
}

// SharedShard returns the test binary's shard of that name, started on first
// use. Tests share it: touch only what you created.
func SharedShard(t testing.TB, name string) *ShardServer {
	t.Helper()
	return mine(t).shared(t, name, "")
}

func (h *harness) shared(t testing.TB, name, binDir string) *ShardServer {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.shards[name]; s != nil {
		return s
	}
	s, err := h.startShard(binDir)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	h.shards[name] = s
	return s
}

// startShard starts one from the programs in binDir; empty: the machine's.
func (h *harness) startShard(binDir string) (*ShardServer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startFor)
	defer cancel()
	dir := filepath.Join(h.dir, fmt.Sprintf("s%d", shards.Add(1)))
	s := &ShardServer{
		Admin:   secret.Login{User: "freehold_admin", Password: pg.NewPassword()},
		Console: secret.Login{User: "freehold_bouncer_admin", Password: pg.NewPassword()},
		Auth:    h.auth,
	}
	settings := pgserver.ShardSettings()
	settings["shared_buffers"] = "64MB"
	var err error
	s.Postgres, err = start(ctx, pgserver.Config{Dir: dir + "p", BinDir: binDir, Superuser: s.Admin.User, Password: s.Admin.Password,
		Settings: settings, HBA: pgserver.ShardHBA(s.Admin.User, s.Auth.User), FastUnsafe: true, DieWithParent: true})
	if err != nil {
		return nil, err
	}
	if err := s.finish(ctx, dir+"b"); err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}

func (s *ShardServer) finish(ctx context.Context, bouncerDir string) error {
	verifier, err := pg.QuickVerifier(s.Auth.Password)
	if err != nil {
		return err
	}
	if err := onServer(s.Postgres, "CREATE ROLE "+pg.Ident(s.Auth.User)+" LOGIN PASSWORD '"+verifier+"'"); err != nil {
		return err
	}
	s.Bouncer, err = pgserver.NewBouncer(pgserver.BouncerConfig{Dir: bouncerDir,
		BackendHost: s.Postgres.SocketDir(), BackendPort: s.Postgres.Port(),
		Auth: s.Auth, Admin: s.Console, Settings: BouncerSettings, FastUnsafe: true, DieWithParent: true})
	if err != nil {
		return err
	}
	return s.Bouncer.Start(ctx)
}

func (s *ShardServer) close(ctx context.Context) error {
	var err error
	if s.Bouncer != nil {
		err = s.Bouncer.Destroy(ctx)
	}
	return errors.Join(err, s.Postgres.Abort(ctx), s.Postgres.Destroy(ctx))
}
