package dataplane_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/process"
	"github.com/freehold-db/freehold/internal/secret"
)

// rival is another server that does the same for the same database.
type rival struct {
	name   string
	binary string
	// start tells how to run it on a port: its arguments, variables, where a row is, and the token to send.
	start func(b *testing.B, w *world, port int) (args, env []string, path, token string)
}

// rivals are those that `make bench` compares a node with, where they are installed.
var rivals = []rival{
	{"PostgREST", "postgrest", postgrest},
	{"pREST", "prestd", prest},
}

// postgrest goes through the same PgBouncer, as it would have to for many
// tenants, with a token of HS256.
func postgrest(b *testing.B, w *world, port int) (args, env []string, path, token string) {
	b.Helper()
	const key = "0123456789abcdef0123456789abcdef"
	login, _, err := w.secrets.Get(b.Context(), secret.DatabaseAuth(w.database("acme")))
	require.NoError(b, err)
	uri := url.URL{Scheme: "postgres", User: url.UserPassword(login.User, login.Password), Path: "/" + w.database("acme"),
		Host: net.JoinHostPort(w.shard.Host(), fmt.Sprint(w.shard.BouncerPort()))}
	file := filepath.Join(b.TempDir(), "postgrest.conf")
	require.NoError(b, os.WriteFile(file, fmt.Appendf(nil, `db-uri = %q
db-schemas = "public"
db-pool = %d
db-prepared-statements = false
db-channel-enabled = false
db-config = false
jwt-secret = %q
server-host = "127.0.0.1"
server-port = %d
log-level = "crit"
`, uri.String(), benchConns, key, port), 0o600))
	token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"role": w.database("acme") + "_rw", "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(key))
	require.NoError(b, err)
	return []string{file}, nil, "/notes?id=eq.%d", token
}

// prest goes straight to Postgres, without roles and tokens.
func prest(b *testing.B, w *world, port int) (args, env []string, path, token string) {
	b.Helper()
	return nil, []string{
		fmt.Sprintf("PREST_HTTP_PORT=%d", port), "PREST_HTTP_HOST=127.0.0.1", "PREST_DEBUG=false", "PREST_AUTH_ENABLED=false", "PREST_CACHE_ENABLED=false", "PREST_JWT_DEFAULT=false",
		"PREST_PG_URL=" + w.shard.Postgres.DSN(w.database("acme")), fmt.Sprintf("PREST_PG_MAXOPENCONN=%d", benchConns), fmt.Sprintf("PREST_PG_MAXIDLECONN=%d", benchConns),
	}, "/" + w.database("acme") + "/public/notes?id=$eq.%d", "none"
}

// BenchmarkAgainstRivals holds a whole node against other servers, in turns, by a GET by key.
func BenchmarkAgainstRivals(b *testing.B) {
	w := newWorld(b)
	w.tenant("acme", benchRows)
	node := w.node(func(c *dataplane.Config) { c.Router.TenantConns = benchConns })
	tok := w.token("acme", "editor")
	for _, r := range rivals {
		binary, err := exec.LookPath(r.binary)
		if err != nil {
			b.Logf("%s is not installed", r.name)
			continue
		}
		port, err := process.FreePort()
		require.NoError(b, err)
		args, env, path, token := r.start(b, w, port)
		at := fmt.Sprintf("http://127.0.0.1:%d", port)
		run(b, binary, args, env, at+fmt.Sprintf(path, 1), token)
		for _, clients := range []int{16, 64} {
			b.Run(fmt.Sprintf("%s/c=%d", r.name, clients), func(b *testing.B) {
				ours := &side{url: node.URL(), next: func() (string, string) { return fmt.Sprintf("/rest/v1/notes?id=eq.%d", 1+rand.IntN(benchRows)), "" }}
				theirs := &side{url: at, next: func() (string, string) { return fmt.Sprintf(path, 1+rand.IntN(benchRows)), "" }}
				for range benchTurns {
					ours.fire(b, tok, clients)
					theirs.fire(b, token, clients)
				}
				b.ReportMetric(ours.rate(), "req/s")
				b.ReportMetric(theirs.rate(), "their-req/s")
				b.ReportMetric(ours.rate()/theirs.rate(), "×throughput")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// run starts a program that serves until the benchmark ends, and waits until it answers.
func run(b *testing.B, binary string, args, env []string, probe, token string) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env, cmd.Dir = append(os.Environ(), env...), b.TempDir()
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // ended by us
	})
	deadline := time.Now().Add(20 * time.Second)
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, probe, nil)
		require.NoError(b, err)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("status %d", resp.StatusCode)
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s does not serve: %v", binary, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
