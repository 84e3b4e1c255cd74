package dataplane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/issuer"
	"github.com/freehold-db/freehold/internal/natsserver"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/problem"
	"github.com/freehold-db/freehold/internal/schemachange"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// world is what stands around a node: a shard, NATS, a token issuer, a secret
// store. It plays the control plane's part by hand, since the data plane must
// not know the control plane.
type world struct {
	t       testing.TB
	shard   *pgtest.ShardServer
	nats    *natsserver.Server
	issuer  *issuer.Server
	dir     string
	secrets secret.Store
	kv      map[string]jetstream.KeyValue
	control *httptest.Server // knows no tenant: what exists is in KV
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return worldOf(t, pgtest.SharedShard(t, "s1"))
}

func worldOf(t testing.TB, shard *pgtest.ShardServer) *world {
	t.Helper()
	w := &world{t: t, shard: shard, dir: t.TempDir(), kv: map[string]jetstream.KeyValue{}}
	var err error
	w.nats, err = natsserver.Start(t.Context(), natsserver.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, w.nats) })
	w.issuer, err = issuer.Start(t.Context(), t.TempDir(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, w.issuer) })
	w.secrets, err = secret.OpenDir(w.dir)
	require.NoError(t, err)
	w.control = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/v1/placements/") && !strings.HasPrefix(r.URL.Path, "/v1/access/") {
			http.Error(rw, "away", http.StatusServiceUnavailable)
			return
		}
		problem.Write(rw, problem.New(http.StatusNotFound, "not_found", "no such thing", ""))
	}))
	t.Cleanup(w.control.Close)
	w.fill(w.nats.URL())
	return w
}

// fill makes the buckets as the control plane does, with the shard and these tenants in them.
func (w *world) fill(url string, tenants ...shardmap.TenantID) {
	w.t.Helper()
	nc, err := nats.Connect(url, nats.Timeout(20*time.Second))
	require.NoError(w.t, err)
	w.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(time.Minute))
	require.NoError(w.t, err)
	for _, b := range []string{shardmap.BucketPlacements, shardmap.BucketShards, access.Bucket} {
		w.kv[b], err = js.CreateOrUpdateKeyValue(w.t.Context(), jetstream.KeyValueConfig{Bucket: b})
		require.NoError(w.t, err)
	}
	w.publish(access.Bucket, access.FleetKey, access.Fleet{Version: 1})
	w.publish(shardmap.BucketShards, "s1", shardmap.Shard{ID: "s1", Host: w.shard.Host(), Port: w.shard.BouncerPort(), Version: 1})
	for _, id := range tenants {
		w.place(id, shardmap.Active, 1)
	}
}

func stop(t testing.TB, s interface{ Stop(context.Context) error }) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func (w *world) publish(bucket, key string, v any) {
	w.t.Helper()
	b, err := json.Marshal(v)
	require.NoError(w.t, err)
	_, err = w.kv[bucket].Put(w.t.Context(), key, b)
	require.NoError(w.t, err)
}

func (w *world) admin(database string) *pgx.Conn {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.shard.Postgres.DSN(database))
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// database is the opaque name of a tenant's database in this test.
func (w *world) database(tenant shardmap.TenantID) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%s", w.t.Name(), tenant)
	return fmt.Sprintf("t_%016x", h.Sum64())
}

// tenant makes a database with its roles, its login and a table of notes, and publishes where it is.
func (w *world) tenant(id shardmap.TenantID, rows int) {
	w.t.Helper()
	ctx, x := w.t.Context(), w.database(id)
	login := secret.Login{User: x + "_auth_a", Password: pg.NewPassword(), Generation: 1}
	verifier, err := pg.ScramVerifier(login.Password)
	require.NoError(w.t, err)
	exec := func(conn *pgx.Conn, sql string) {
		w.t.Helper()
		_, err := conn.Exec(ctx, strings.ReplaceAll(sql, "{X}", x)) // braces: no verifier holds them
		require.NoError(w.t, err, sql)
	}
	root := w.admin("postgres")
	exec(root, `CREATE ROLE {X}; CREATE ROLE {X}_owner; CREATE ROLE {X}_rw; CREATE ROLE {X}_ro`)
	exec(root, `CREATE ROLE {X}_auth_a LOGIN NOINHERIT IN ROLE {X}, {X}_rw, {X}_ro PASSWORD '`+verifier+`'`)
	exec(root, `CREATE DATABASE {X} TEMPLATE template0`)
	exec(root, `REVOKE ALL ON DATABASE {X} FROM PUBLIC`)
	exec(root, `GRANT CONNECT ON DATABASE {X} TO {X}_auth_a, freehold_bouncer`)
	w.t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), w.shard.Postgres.DSN("postgres"))
		if err == nil {
			_, err = conn.Exec(context.Background(), "DROP DATABASE "+x+" WITH (FORCE)")
			if err == nil {
				_, err = conn.Exec(context.Background(), strings.ReplaceAll("DROP ROLE {X}_auth_a, {X}_owner, {X}_rw, {X}_ro, {X}", "{X}", x))
			}
			_ = conn.Close(context.Background())
		}
		if err != nil {
			w.t.Errorf("drop %s: %v", x, err)
		}
	})
	db := w.admin(x)
	exec(db, `CREATE SCHEMA freehold; GRANT USAGE ON SCHEMA freehold TO freehold_bouncer;
		CREATE FUNCTION freehold.lookup(name text, OUT usename text, OUT passwd text) LANGUAGE sql SECURITY DEFINER
		AS 'SELECT rolname::text, rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin
			AND pg_catalog.pg_has_role(oid, pg_catalog.current_database()::name, ''MEMBER'')';
		REVOKE ALL ON FUNCTION freehold.lookup FROM PUBLIC; GRANT EXECUTE ON FUNCTION freehold.lookup TO freehold_bouncer;`+schemachange.SQL)
	exec(db, fmt.Sprintf(`CREATE TABLE notes (id bigint PRIMARY KEY, owner text NOT NULL, body text NOT NULL);
		INSERT INTO notes SELECT i, '%s', repeat('x', 100) FROM generate_series(1, %d) i; ANALYZE notes;
		GRANT USAGE ON SCHEMA public TO {X}_rw, {X}_ro; GRANT SELECT ON notes TO {X}_rw, {X}_ro; GRANT INSERT, UPDATE, DELETE ON notes TO {X}_rw`, id, rows))
	_, err = w.secrets.Put(ctx, secret.DatabaseAuth(x), login, 0)
	require.NoError(w.t, err)
	w.place(id, shardmap.Active, 1)
}

func (w *world) place(id shardmap.TenantID, state shardmap.State, epoch shardmap.Epoch) {
	w.t.Helper()
	w.publish(shardmap.BucketPlacements, string(id), shardmap.Placement{Tenant: id, Shard: "s1", Database: w.database(id), Epoch: epoch, State: state})
}

func (w *world) config() dataplane.Config {
	return dataplane.Config{Name: "n1", Listen: "127.0.0.1:0", OpsListen: "127.0.0.1:0", DatabaseTLS: w.shard.Security, NATSURL: w.nats.URL(), ControlURL: w.control.URL, SecretsDir: secret.TenantsDir(w.dir),
		Issuer: w.issuer.URL(), JWKSURL: w.issuer.JWKSURL(), Log: slog.New(slog.NewTextHandler(testLog{w.t}, &slog.HandlerOptions{Level: slog.LevelWarn}))}
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", p)
	return len(p), nil
}

// node starts a node, and waits until it is ready.
func (w *world) node(adjust ...func(*dataplane.Config)) *dataplane.Server {
	w.t.Helper()
	cfg := w.config()
	for _, f := range adjust {
		f(&cfg)
	}
	s, err := dataplane.Start(w.t.Context(), cfg)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { stop(w.t, s) })
	w.eventually(s, http.StatusOK)
	return s
}

func (w *world) eventually(s *dataplane.Server, status int) {
	w.t.Helper()
	at := s.URL()
	if strings.HasPrefix(at, "https:") {
		at = s.OpsURL()
	}
	require.Eventually(w.t, func() bool {
		resp, err := http.Get(at + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == status
	}, time.Minute, 10*time.Millisecond)
}

func (w *world) token(id shardmap.TenantID, role string) string {
	w.t.Helper()
	tok, err := w.issuer.Mint(issuer.Claims{Tenant: id, Role: role})
	require.NoError(w.t, err)
	return tok
}

type answer struct {
	status int
	body   string
}

func do(t testing.TB, method, url, token, body string, adjust ...func(*http.Request)) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, f := range adjust {
		f(req)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, string(b)}
}
