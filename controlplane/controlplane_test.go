package controlplane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/freehold-db/freehold/controlplane"
	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/internal/leaktest"
	"github.com/freehold-db/freehold/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const token = "a token of the test"

func config(t *testing.T) controlplane.Config {
	t.Helper()
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens.json")
	require.NoError(t, os.WriteFile(tokens, fmt.Appendf(nil, `[{"name":"tester","role":"admin","sha256":%q}]`, adminapi.HashToken(token)), 0o600))
	return controlplane.Config{Name: t.Name(), Listen: "127.0.0.1:0", CatalogDSN: pgtest.Database(t), AuditDSN: pgtest.Database(t),
		NATSURL:    "nats://127.0.0.1:1", // away all the time
		SecretsDir: filepath.Join(dir, "secrets"), MigrationsDir: "../deploy/sample", TokensFile: tokens,
		DatabaseTLS: pgtest.Security(t), WarmPool: 1, LeaseFor: 2 * time.Second, Log: slog.New(slog.DiscardHandler)}
}

func start(t *testing.T, cfg controlplane.Config) *controlplane.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := controlplane.Start(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *controlplane.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, s.Stop(ctx))
	require.Empty(t, s.Done())
}

func call(t *testing.T, s *controlplane.Server, method, path string, body any) (int, map[string]any) {
	t.Helper()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		require.NoError(t, err)
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, in)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read only
	out := map[string]any{}
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	_ = json.Unmarshal(b, &out) // not every answer is an object
	return resp.StatusCode, out
}

// A replica comes up, registers a shard that speaks TLS only, makes a tenant, and
// stops, all without NATS; another one on the same catalog goes on.
func TestReplicasServeWithoutNATS(t *testing.T) {
	cfg, server := config(t), pgtest.SecureShard(t)
	cfg.DatabaseTLS = server.Security
	s := start(t, cfg)
	status, doc := call(t, s, "POST", "/v1/shards", map[string]any{
		"id": "s1", "routes_file": server.RoutesFile(), "postgres_tls_dir": server.Postgres.TLSDir(),
		"postgres":      map[string]any{"host": server.Host(), "port": server.PGPort()},
		"bouncer":       map[string]any{"host": server.Host(), "port": server.BouncerPort()},
		"admin":         map[string]any{"user": server.Admin.User, "password": server.Admin.Password},
		"bouncer_admin": map[string]any{"user": server.Console.User, "password": server.Console.Password},
	})
	require.Equal(t, http.StatusCreated, status, doc)
	status, doc = call(t, s, "POST", "/v1/tenants", map[string]any{"id": "acme"})
	require.Contains(t, []int{http.StatusOK, http.StatusAccepted}, status, doc)

	cfg.Name += "-2"
	second := start(t, cfg)
	stop(t, s)
	deadline := time.Now().Add(time.Minute)
	for {
		status, doc = call(t, second, "GET", "/v1/tenants/acme", nil)
		if status == http.StatusOK {
			break
		}
		require.True(t, time.Now().Before(deadline), "%d %v", status, doc)
		time.Sleep(20 * time.Millisecond)
	}
	require.Equal(t, "s1", doc["shard"])
	status, _ = call(t, second, "GET", "/readyz", nil)
	require.Equal(t, http.StatusOK, status)
	require.Eventually(t, func() bool { // the relay carries what the first replica left
		return strings.Contains(metrics(t, second), "\nfreehold_audit_relay_lag_seconds 0\n")
	}, time.Minute, 50*time.Millisecond)
	text := metrics(t, second)
	require.Contains(t, text, "\nfreehold_catalog_up 1\n")
	require.Contains(t, text, `freehold_warm_pool_ready{shard="s1"} `)
	require.Contains(t, text, "\nfreehold_outbox_oldest_seconds ")
	require.NotContains(t, text, "\nfreehold_outbox_oldest_seconds 0\n", "NATS is away: changes wait")
}

func metrics(t *testing.T, s *controlplane.Server) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL()+"/metrics", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read only
	require.Equal(t, http.StatusOK, resp.StatusCode)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(text)
}

func TestStartFailsCleanly(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg, bad := config(t), config(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close() //nolint:errcheck // ends with the test
	defer leaktest.None(t, goleak.IgnoreCurrent())

	cfg.Listen = taken.Addr().String()
	_, err = controlplane.Start(ctx, cfg)
	require.ErrorIs(t, err, syscall.EADDRINUSE)

	bad.TokensFile = "/nonexistent"
	_, err = controlplane.Start(ctx, bad)
	require.ErrorIs(t, err, os.ErrNotExist)

	bad = cfg
	bad.CatalogDSN = "postgres://nobody:secretword@127.0.0.1:1/none?connect_timeout=2"
	_, err = controlplane.Start(ctx, bad)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secretword")
}
