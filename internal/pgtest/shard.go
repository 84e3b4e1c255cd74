package pgtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/internal/pki"
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
	// Security is how links to it are to be secured, Channel opens them; both are zero for plain text.
	Security pg.TLS
	Channel  *pg.Channel
}

// PGPort is the port of Postgres itself, on [ShardServer.Host].
func (s *ShardServer) PGPort() uint16 { return uint16(s.Postgres.Port()) } //nolint:gosec // a port

// BouncerPort is the port of PgBouncer, on [ShardServer.Host].
func (s *ShardServer) BouncerPort() uint16 { return uint16(s.Bouncer.Port()) } //nolint:gosec // a port

// Host is where both listen.
func (s *ShardServer) Host() string { return s.Postgres.Host() }

// RoutesFile is PgBouncer's file of explicit entries.
func (s *ShardServer) RoutesFile() string { return s.Bouncer.RoutesFile() }

// SecurityText is Security for [ChannelOf] in another process of the test.
func (s *ShardServer) SecurityText() string {
	text, _ := json.Marshal(s.Security) // strings alone
	return string(text)
}

// ChannelOf opens the channel that [ShardServer.SecurityText] describes.
func ChannelOf(text string) (*pg.Channel, error) {
	var security pg.TLS
	if err := json.Unmarshal([]byte(text), &security); err != nil {
		return nil, err
	}
	return security.Open(slog.Default())
}

var shards atomic.Int64

// BouncerSettings replace or add to those of every PgBouncer that is started
// from now on. For a TestMain, before it calls [Main].
var BouncerSettings map[string]string

// EnvTLS names the environment variable that, set to anything, has all shards
// speak TLS and nothing else, with certificates on both sides of every link.
const EnvTLS = "FREEHOLD_TEST_TLS"

// Security is how links to shards are secured by what [EnvTLS] says: not at all without it.
func Security(t testing.TB) pg.TLS {
	t.Helper()
	if os.Getenv(EnvTLS) == "" {
		return pg.TLS{}
	}
	files, err := mine(t).certificates("client")
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return security(files)
}

// Channel opens links to shards as [Security] says; nil is plain text.
func Channel(t testing.TB) *pg.Channel {
	t.Helper()
	s := Security(t)
	if !s.On() {
		return nil
	}
	c, err := s.Open(slog.Default())
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return c
}

// security is how links are secured to servers with these files.
func security(files *pgserver.TLS) pg.TLS {
	return pg.TLS{Mode: pg.TLSVerifyFull, CAFile: files.CA, CertFile: files.ClientCert, KeyFile: files.ClientKey}
}

// Shard starts a shard of the test's own; it is stopped and removed when the test ends.
func Shard(t testing.TB) *ShardServer {
	t.Helper()
	return own(t, os.Getenv(EnvTLS) != "")
}

// SecureShard is [Shard] with TLS, whatever [EnvTLS] says.
func SecureShard(t testing.TB) *ShardServer {
	t.Helper()
	return own(t, true)
}

func own(t testing.TB, secure bool) *ShardServer {
	t.Helper()
	s, err := mine(t).startShard("", secure)
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
	return mine(t).shared(t, name, "", os.Getenv(EnvTLS) != "")
}

// SharedSecureShard is [SharedShard] with TLS, whatever [EnvTLS] says. Those
// with and those without may not have the same name.
func SharedSecureShard(t testing.TB, name string) *ShardServer {
	t.Helper()
	return mine(t).shared(t, name, "", true)
}

func (h *harness) shared(t testing.TB, name, binDir string, secure bool) *ShardServer {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.shards[name]; s != nil {
		return s
	}
	s, err := h.startShard(binDir, secure)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	h.shards[name] = s
	return s
}

// startShard starts one from the programs in binDir; empty: the machine's.
func (h *harness) startShard(binDir string, secure bool) (*ShardServer, error) {
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
	var files *pgserver.TLS
	var err error
	if secure {
		if files, err = h.certificates(filepath.Base(dir)); err != nil {
			return nil, err
		}
		s.Security = security(files)
		if s.Channel, err = s.Security.Open(slog.Default()); err != nil {
			return nil, err
		}
	}
	s.Postgres, err = start(ctx, pgserver.Config{Dir: dir + "p", BinDir: binDir, Superuser: s.Admin.User, Password: s.Admin.Password,
		Settings: settings, HBA: pgserver.HBA{Platform: []string{s.Admin.User, s.Auth.User}, TLS: secure}.Lines(), TLS: files,
		FastUnsafe: true, DieWithParent: true})
	if err != nil {
		return nil, err
	}
	if err := s.finish(ctx, dir+"b", files); err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}

// certificates issues a shard's, and those of the tests as its clients.
func (h *harness) certificates(name string) (*pgserver.TLS, error) {
	h.ca.Do(func() { h.authority, h.caErr = pki.Open(filepath.Join(h.dir, "pki")) })
	if h.caErr != nil {
		return nil, h.caErr
	}
	server, err := h.authority.Server(name)
	if err != nil {
		return nil, err
	}
	client, err := h.authority.Client("test")
	if err != nil {
		return nil, err
	}
	return &pgserver.TLS{CA: server.Root, Cert: server.Certificate, Key: server.Key,
		ClientCert: client.Certificate, ClientKey: client.Key}, nil
}

func (s *ShardServer) finish(ctx context.Context, bouncerDir string, files *pgserver.TLS) error {
	verifier, err := pg.QuickVerifier(s.Auth.Password)
	if err != nil {
		return err
	}
	if err := onServer(s.Postgres, "CREATE ROLE "+pg.Ident(s.Auth.User)+" LOGIN PASSWORD '"+verifier+"'"); err != nil {
		return err
	}
	backend := s.Postgres.SocketDir()
	if files != nil {
		backend = s.Postgres.Host() // a unix socket knows no TLS
	}
	s.Bouncer, err = pgserver.NewBouncer(pgserver.BouncerConfig{Dir: bouncerDir,
		BackendHost: backend, BackendPort: s.Postgres.Port(), TLS: files,
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
