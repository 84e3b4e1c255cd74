package rest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/schemachange"
	"github.com/freehold-db/freehold/router"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	os.Exit(pgtest.Run(m.Run))
}

// direct is a Router over one connection.
type direct struct {
	mu       sync.Mutex
	conn     *pgconn.PgConn
	database string
	calls    int
}

func (d *direct) Do(ctx context.Context, tenant shardmap.TenantID, _ router.Access, fn router.Session) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	return fn(ctx, &router.Conn{PG: d.conn, Placement: shardmap.Placement{Tenant: tenant, Database: d.database}})
}

// api is a handler in front of a database of its own.
type api struct {
	t       testing.TB
	engine  *gin.Engine
	owner   *pgx.Conn
	router  *direct
	role    string
	schemas []string // the tenant's own
	options rest.Options
}

// fixture makes a database with the roles of a tenant and the sample schema.
func fixture(t testing.TB, opts rest.Options) *api {
	t.Helper()
	a := unstamped(t, opts)
	a.exec("CREATE SCHEMA freehold;" + schemachange.SQL)
	return a
}

// unstamped is a fixture whose database doesn't note changes of its schema.
func unstamped(t testing.TB, opts rest.Options) *api {
	t.Helper()
	dsn := pgtest.Database(t)
	ctx := t.Context()
	owner, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = owner.Close(context.Background()) })
	sample, err := os.ReadFile("testdata/sample.sql")
	require.NoError(t, err)
	var database string
	require.NoError(t, owner.QueryRow(ctx, "SELECT current_database()").Scan(&database))
	_, err = owner.Exec(ctx, strings.ReplaceAll(string(sample), `"DATABASE`, `"`+database), pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	conn, err := pgconn.Connect(ctx, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })

	a := &api{t: t, owner: owner, router: &direct{conn: conn, database: database}, role: access.RoleEditor}
	a.use(opts)
	return a
}

// use puts a new handler in front of the database.
func (a *api) use(opts rest.Options) {
	if opts.Cache.Pause == 0 {
		opts.Cache.Pause = 1 // a nanosecond: tests change schemas faster than people
	}
	a.options = opts
	a.engine = gin.New()
	a.engine.Use(func(c *gin.Context) {
		id := rest.Identity{Tenant: "acme", Role: a.role, Claims: `{"sub":"alice","role":"editor"}`, Schemas: a.schemas}
		c.Request = c.Request.WithContext(rest.WithIdentity(c.Request.Context(), id))
	})
	rest.New(a.router, opts).Register(a.engine)
}

func (a *api) exec(sql string) {
	a.t.Helper()
	_, err := a.owner.Exec(a.t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
	require.NoError(a.t, err)
}

func (a *api) value(sql string) (v string) {
	a.t.Helper()
	require.NoError(a.t, a.owner.QueryRow(a.t.Context(), sql, pgx.QueryExecModeSimpleProtocol).Scan(&v))
	return v
}

// do sends a request; headers are "Name: value".
func (a *api) do(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	a.t.Helper()
	r := httptest.NewRequest(method, "/rest/v1"+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Content-Type" {
			r.Header.Del(name)
		}
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	a.engine.ServeHTTP(w, r.WithContext(a.t.Context()))
	return w
}

func (a *api) get(path string, headers ...string) *httptest.ResponseRecorder {
	a.t.Helper()
	return a.do(http.MethodGet, path, "", headers...)
}

// sessionRole is the role that the handler's connection has between requests.
func (a *api) sessionRole() string {
	a.t.Helper()
	result := a.router.conn.ExecParams(a.t.Context(), "SELECT current_user::text", nil, nil, nil, nil).Read()
	require.NoError(a.t, result.Err)
	return string(result.Rows[0][0])
}
