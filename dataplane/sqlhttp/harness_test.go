package sqlhttp_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard/shardtest" //nolint:depguard // a test: the shard is as provisioning makes it
	"github.com/freehold-db/freehold/dataplane/sqlhttp"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/router"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// world serves one tenant, acme, of a real shard behind its PgBouncer.
type world struct {
	crossed  []string // tenants that requests named and were refused for
	t        testing.TB
	fleet    *shardtest.Fleet
	database string
	engine   *gin.Engine
}

func (w *world) LoadPlacement(_ context.Context, t shardmap.TenantID, _ shardmap.Epoch) (shardmap.Placement, error) {
	if t != "acme" {
		return shardmap.Placement{}, shardmap.ErrUnknownTenant
	}
	return shardmap.Placement{Tenant: t, Shard: "a", Database: w.database, Epoch: 1, State: shardmap.Active}, nil
}

func (w *world) LoadShard(context.Context, shardmap.ShardID) (shardmap.Shard, error) {
	row := w.fleet.Rows["a"]
	return shardmap.Shard{ID: "a", Host: row.BouncerHost, Port: row.BouncerPort, Version: 1}, nil
}

func newWorld(t testing.TB, limits sqlhttp.Limits) *world {
	t.Helper()
	var name [8]byte
	_, _ = rand.Read(name[:])
	w := &world{t: t, fleet: shardtest.New(t, "../../deploy/sample", "a"), database: "t_" + hex.EncodeToString(name[:])}
	w.fleet.Database(t, "a", w.database)
	// One connection per login, so that a request always follows upon the one before in the same session.
	r := router.New(shardmap.NewMap(shardmap.MapConfig{}, w), w.fleet.Secrets, router.Config{}, router.WithChannel(pgtest.Channel(t)))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.NoError(t, r.Close(ctx))
	})
	gin.SetMode(gin.ReleaseMode)
	w.engine = gin.New()
	limits.Owner = !limits.Owner // nearly every test wants it
	sqlhttp.New(sqlhttp.Options{Limits: limits, Domain: "db.example.com",
		Crossed: func(_ *gin.Context, named, _ string) { w.crossed = append(w.crossed, named) },
		Door:    func(l tenantdb.Login) sqlhttp.Door { return r.As(l) },
		Identify: func(ctx context.Context) (sqlhttp.Identity, bool) {
			role, _ := ctx.Value(roleKey{}).(string)
			return sqlhttp.Identity{Tenant: "acme", Role: role, MayUseSQL: role != "nobody", Claims: json.RawMessage(`{"sub":"alice"}`)}, role != ""
		}}).Register(w.engine)
	return w
}

type roleKey struct{}

type answer struct {
	status int
	text   string
	result
	Results []result
	Message string
	Code    string
	Hint    string
	Details string
	Position, InternalPosition, InternalQuery, Where,
	File, Line, Routine,
	Severity string
	header http.Header
}

type result struct {
	Command  string
	RowCount *int
	Rows     []json.RawMessage
	Fields   []struct {
		Name                                        string
		DataTypeID, DataTypeSize, TableID, ColumnID int
		DataTypeModifier                            int
		Format                                      string
	}
	RowAsArray bool
}

// post sends a body as the driver does.
func (w *world) post(ctx context.Context, role string, body any, headers ...string) answer {
	w.t.Helper()
	text, raw := body.(string)
	if !raw {
		b, err := json.Marshal(body)
		require.NoError(w.t, err)
		text = string(b)
	}
	r := httptest.NewRequestWithContext(context.WithValue(ctx, roleKey{}, role), http.MethodPost, "/sql", bytes.NewBufferString(text))
	r.Header.Set("Neon-Connection-String", "postgresql://user:secret-word@host/acme")
	r.Header.Set("Neon-Raw-Text-Output", "true")
	r.Header.Set("Neon-Array-Mode", "true")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.engine.ServeHTTP(rec, r)
	a := answer{status: rec.Code, text: rec.Body.String(), header: rec.Header()}
	require.NotContains(w.t, a.text, "secret-word")
	require.NoError(w.t, json.Unmarshal(rec.Body.Bytes(), &a), a.text)
	return a
}

func (w *world) sql(role, query string, params ...any) answer {
	w.t.Helper()
	if params == nil {
		params = []any{}
	}
	return w.post(w.t.Context(), role, map[string]any{"query": query, "params": params})
}

// batch runs statements as one transaction.
func (w *world) batch(role string, queries ...string) answer {
	w.t.Helper()
	list := []any{}
	for _, q := range queries {
		list = append(list, map[string]any{"query": q, "params": []any{}})
	}
	return w.post(w.t.Context(), role, map[string]any{"queries": list})
}

// one is the text of the single value that a query returns.
func (w *world) one(role, query string) string {
	w.t.Helper()
	a := w.sql(role, query)
	require.Equal(w.t, 200, a.status, "%s: %s", query, a.text)
	require.Len(w.t, a.Rows, 1, query)
	return string(a.Rows[0])
}
