// Package fleet gives a test a whole Freehold: the development fleet, each
// part a process of its own, and what a test needs to speak to it.
package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/controlplane"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/issuer"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

// Fleet is a running development fleet in processes.
type Fleet struct {
	*dev.Fleet
	Info  dev.Info
	Admin *client.Client
	HTTP  *http.Client // believes the fleet's certificates

	issuer *issuer.Signer
}

// binary builds tenant-ops once for all tests of this run.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "freehold-bin-")
	if err != nil {
		return "", err
	}
	_, here, _, _ := runtime.Caller(0)
	path := filepath.Join(dir, "tenant-ops")
	cmd := exec.Command("go", "build", "-o", path, "./cli/tenant-ops")
	cmd.Dir = filepath.Join(filepath.Dir(here), "..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building tenant-ops: %w\n%s", err, out)
	}
	return path, nil
})

// BuildBinary builds the tenant-ops program under test, once. Call [Remove] at the end of TestMain.
func BuildBinary() (string, error) { return binary() }

// Binary is BuildBinary for a test.
func Binary(t testing.TB) string {
	path, err := binary()
	require.NoError(t, err)
	return path
}

// Remove deletes what Binary built.
func Remove() {
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
}

// Start brings up a fleet whose parts can be killed one by one, and stops it
// when the test ends. A failed test keeps the tails of the parts' logs.
func Start(t testing.TB, opts dev.Options) *Fleet {
	t.Helper()
	f, stop, err := Up(opts, Binary(t), pgtest.TempDir(t))
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			f.LogTails(t)
		}
		require.NoError(t, stop())
	})
	return f
}

// Up is Start for a TestMain. With [pgtest.EnvTLS] every fleet is one with TLS.
func Up(opts dev.Options, binary, dir string) (*Fleet, func() error, error) {
	opts.Dir, opts.Processes, opts.Binary, opts.FastUnsafe = filepath.Join(dir, "fleet"), true, binary, true
	opts.TLS = opts.TLS || os.Getenv(pgtest.EnvTLS) != ""
	chosen := opts.ControlPlane
	opts.ControlPlane = func(c *controlplane.Config) {
		c.LeaseFor = 2 * time.Second // a killed worker is followed soon
		c.MoveGrace = time.Second
		c.WarmPool = 2
		if chosen != nil {
			chosen(c)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	up, err := dev.Start(ctx, opts)
	if err != nil {
		return nil, nil, err
	}
	stop := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := up.Stop(ctx); err != nil {
			return err
		}
		return dev.Destroy(ctx, opts.Dir)
	}
	f := &Fleet{Fleet: up, Info: up.Info()}
	f.HTTP, err = f.Info.HTTP()
	if err == nil {
		f.Admin, err = f.Info.Client()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w (and stopping: %w)", err, stop())
	}
	if f.issuer, err = issuer.Open(dev.IssuerDir(opts.Dir)); err != nil {
		return nil, nil, fmt.Errorf("%w (and stopping: %w)", err, stop())
	}
	return f, stop, nil
}

// LogTails shows the end of every part's log.
func (f *Fleet) LogTails(t testing.TB) {
	for _, name := range f.Names() {
		b, err := os.ReadFile(dev.LogFile(f.Dir(), name))
		if err != nil {
			continue
		}
		if len(b) > 6000 {
			b = b[len(b)-6000:]
		}
		t.Logf("--- %s\n%s", name, b)
	}
}

// Token mints a token of the fleet's own issuer.
func (f *Fleet) Token(t testing.TB, tenant, role string) string {
	t.Helper()
	token, err := f.issuer.Mint(issuer.Claims{Tenant: shardmap.TenantID(tenant), Role: role, Subject: "test"})
	require.NoError(t, err)
	return token
}

// SQLToken is Token with the permission to use SQL.
func (f *Fleet) SQLToken(t testing.TB, tenant, role string) string {
	t.Helper()
	token, err := f.issuer.Mint(issuer.Claims{Tenant: shardmap.TenantID(tenant), Role: role, Subject: "test", Permissions: []string{access.PermissionSQL}})
	require.NoError(t, err)
	return token
}

// Create makes a tenant on a shard ("" for any) and waits until it is there.
func (f *Fleet) Create(t testing.TB, id, shard string) {
	t.Helper()
	op, err := f.Admin.CreateTenant(t.Context(), api.CreateTenant{ID: id, Shard: shard}, client.Change{})
	require.NoError(t, err)
	f.Wait(t, op.ID, time.Minute)
}

// Wait watches an operation to its end, which must be "done".
func (f *Fleet) Wait(t testing.TB, op string, bound time.Duration) api.Operation {
	t.Helper()
	end := f.Finish(t, op, bound)
	require.Equal(t, "done", end.State, "operation %s: %s", op, end.Error)
	return end
}

// Finish watches an operation to its end, whichever it is.
func (f *Fleet) Finish(t testing.TB, op string, bound time.Duration) api.Operation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	end, err := f.Admin.Watch(ctx, op, func(api.Operation) error { return nil })
	require.NoError(t, err, "operation %s did not end in %s", op, bound)
	return end
}

// Move starts a move.
func (f *Fleet) Move(t testing.TB, id, to string) api.Operation {
	t.Helper()
	op, err := f.Admin.MoveTenant(t.Context(), id, api.MoveTenant{To: to}, client.Change{})
	require.NoError(t, err)
	return op
}

// Answer is what a node said.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends one request to the first data-plane node; body may be nil.
func (f *Fleet) Do(t testing.TB, method, path, token string, body any, edit ...func(*http.Request)) Answer {
	t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		require.NoError(t, err)
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, f.Info.DataplaneURLs[0]+path, r)
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, e := range edit {
		e(req)
	}
	resp, err := f.HTTP.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read to its end
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return Answer{resp.StatusCode, resp.Header, b}
}

// Postgres opens a shard's server as its superuser.
func (f *Fleet) Postgres(t testing.TB, shard, database string) *pgx.Conn {
	t.Helper()
	for _, s := range f.Fleet.Info().Shards {
		if string(s.ID) != shard {
			continue
		}
		cfg, err := pgx.ParseConfig(s.PostgresDSN)
		require.NoError(t, err)
		if database != "" {
			cfg.Database = database
		}
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	t.Fatalf("no shard %s", shard)
	return nil
}

// TenantPostgres opens the database that the catalog says is the tenant's, as its server's superuser.
func (f *Fleet) TenantPostgres(ctx context.Context, tenant string) (*pgx.Conn, error) {
	place, err := f.Admin.Placement(ctx, tenant)
	if err != nil {
		return nil, err
	}
	for _, s := range f.Fleet.Info().Shards {
		if s.ID == place.Shard {
			cfg, err := pgx.ParseConfig(s.PostgresDSN)
			if err != nil {
				return nil, err
			}
			cfg.Database = place.Database
			return pgx.ConnectConfig(ctx, cfg)
		}
	}
	return nil, fmt.Errorf("shard %s of tenant %s is not of this fleet", place.Shard, tenant)
}
