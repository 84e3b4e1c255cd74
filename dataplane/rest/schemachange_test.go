package rest_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// A change of schema is seen by the first request that needs it, although
// nothing told the handler and its cache is not due.
func TestSchemaChanges(t *testing.T) {
	for name, make := range map[string]func(testing.TB, rest.Options) *api{"stamped": fixture, "unstamped": unstamped} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testSchemaChanges(make(t, rest.Options{Cache: schema.Options{TTL: time.Hour}}))
		})
	}
}

func testSchemaChanges(a *api) {
	t := a.t
	require.Equal(t, 404, a.get("/fresh").Code)
	a.exec("CREATE TABLE fresh (id int PRIMARY KEY, v int DEFAULT 1)")
	require.Equal(t, 200, a.get("/fresh").Code)

	require.Equal(t, 400, a.get("/fresh?w=eq.1").Code)
	a.exec("ALTER TABLE fresh ADD w int")
	require.Equal(t, 200, a.get("/fresh?w=eq.1").Code)
	w := a.do(http.MethodPost, "/fresh", `{"id":1,"w":5}`, full)
	require.JSONEq(t, `[{"id":1,"v":1,"w":5}]`, w.Body.String())

	// A dropped column in the answer to `*`, in a filter, in a body.
	a.exec("ALTER TABLE fresh DROP w")
	require.JSONEq(t, `[{"id":1,"v":1}]`, a.get("/fresh").Body.String())
	w = a.get("/fresh?w=eq.1")
	require.JSONEq(t, `{"code":"42703","details":null,"hint":null,"message":"column fresh.w does not exist"}`, w.Body.String())
	require.Contains(t, a.do(http.MethodPost, "/fresh", `{"id":2,"w":5}`).Body.String(), "PGRST204")

	// A new default, type and key are in force at once, without any error to notice them by.
	a.exec("ALTER TABLE fresh ALTER v SET DEFAULT 2")
	w = a.do(http.MethodPost, "/fresh?columns=id,v", `[{"id":2},{"id":3,"v":3}]`, full, "Prefer: missing=default")
	require.JSONEq(t, `[{"id":2,"v":2},{"id":3,"v":3}]`, w.Body.String())
	a.exec("ALTER TABLE fresh ALTER v TYPE bigint")
	w = a.do(http.MethodPost, "/fresh", `{"id":4,"v":5000000000}`, full)
	require.JSONEq(t, `[{"id":4,"v":5000000000}]`, w.Body.String())
	a.exec("ALTER TABLE fresh ALTER v TYPE text")
	require.Equal(t, 200, a.get("/fresh?v=like.5*").Code)
	a.exec("ALTER TABLE fresh ALTER v DROP DEFAULT, ALTER v TYPE jsonb USING to_jsonb(v)")
	require.Equal(t, 200, a.get("/fresh?v->x=is.null").Code)

	a.exec("CREATE DOMAIN strict AS int NOT NULL; ALTER TABLE fresh ADD s strict DEFAULT 3")
	w = a.do(http.MethodPost, "/fresh?select=s", `{"id":5}`, full)
	require.JSONEq(t, `[{"s":3}]`, w.Body.String())

	a.exec("DROP TABLE fresh")
	w = a.get("/fresh")
	require.Equal(t, 404, w.Code)
	require.Contains(t, w.Body.String(), "PGRST205")
}

// Requests while the schema changes under them get the old or the new answer, never a stale error.
func TestSchemaChangesUnderLoad(t *testing.T) {
	a := fixture(t, rest.Options{Cache: schema.Options{TTL: time.Hour}})
	a.exec("CREATE TABLE moving (id int, a int); INSERT INTO moving VALUES (1, 1)")
	var wait sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if w := a.get("/moving?select=id"); w.Code != 200 || w.Body.String() != `[{"id":1}]` {
					t.Errorf("%d %s", w.Code, w.Body)
				}
			}
		})
	}
	for range 10 {
		a.exec("BEGIN; ALTER TABLE moving RENAME TO gone; CREATE TABLE moving (b text, id bigint); INSERT INTO moving SELECT 'x', id FROM gone; DROP TABLE gone; COMMIT")
	}
	close(stop)
	wait.Wait()
}

// What would make no error is seen at once, too: the database says that its
// schema is another one, before anything of the request is executed.
func TestChangesWithoutAnError(t *testing.T) {
	a := fixture(t, rest.Options{Cache: schema.Options{TTL: time.Nanosecond}}) // of no use where there are stamps
	a.exec(`CREATE TABLE shelves (id int PRIMARY KEY); INSERT INTO shelves VALUES (1);
		CREATE TABLE books (id int PRIMARY KEY, shelf int REFERENCES shelves, owner text DEFAULT 'alice'); INSERT INTO books VALUES (1, 1), (2, 1); UPDATE books SET owner = 'bob' WHERE id = 2`)
	get := func(path string) string { return strings.ReplaceAll(a.get(path).Body.String(), ", \n ", ",") }
	require.Equal(t, `[{"books":[{"id": 1}, {"id": 2}]}]`, get("/shelves?select=books(id)"))
	a.exec("DELETE FROM books WHERE id = 2; ALTER TABLE books ADD CONSTRAINT one UNIQUE (shelf)")
	require.Equal(t, `[{"books":{"id": 1}}]`, get("/shelves?select=books(id)"))
	a.exec("ALTER TABLE books DROP CONSTRAINT one; INSERT INTO books VALUES (2, 1, 'bob')")
	require.Equal(t, `[{"books":[{"id": 1}, {"id": 2}]}]`, get("/shelves?select=books(id)"))
	a.exec("ALTER TABLE books ADD second int REFERENCES shelves")
	require.Equal(t, 300, a.get("/shelves?select=books(id)").Code)
	a.exec("BEGIN; ALTER TABLE books DROP second; NOTIFY pgrst, 'reload schema'; COMMIT")
	require.Equal(t, 200, a.get("/shelves?select=books(id)").Code)

	// A policy reads settings that a plain table's requests don't have.
	require.Equal(t, `[{"id":1},{"id":2}]`, get("/books?select=id&order=id"))
	a.exec(`ALTER TABLE books ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON books USING (owner = current_setting('request.jwt.claims')::json->>'sub')`)
	require.Equal(t, `[{"id":1}]`, get("/books?select=id&order=id"))
	require.Equal(t, `[{"books":[{"id": 1}]}]`, get("/shelves?select=books(id)"), "of an embedded table, too")
	a.exec("DROP POLICY own ON books; ALTER TABLE books DISABLE ROW LEVEL SECURITY")
	require.Equal(t, `[{"id":1},{"id":2}]`, get("/books?select=id&order=id"))

	a.exec(`CREATE FUNCTION title(books) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'of ' || (current_setting('request.jwt.claims')::json->>'sub') || ' ' || current_setting('transaction_read_only') $$`)
	require.Equal(t, `[{"title":"of alice on"}]`, get("/books?select=title&id=eq.1"))
	require.Equal(t, `[{"id":1}]`, get("/books?select=id&id=eq.1&title=like.of*"))
	require.Equal(t, `[{"id":1},{"id":2}]`, get("/books?select=id&order=title,id"))
}

// Every request that begins after a change was committed is answered by it,
// while others change the schema and requests go on all the time.
func TestEveryRequestSeesTheCommittedSchema(t *testing.T) {
	a := fixture(t, rest.Options{})
	a.exec("CREATE TABLE shelves (id int PRIMARY KEY); INSERT INTO shelves VALUES (1); CREATE TABLE books (shelf int REFERENCES shelves); INSERT INTO books VALUES (1)")
	noise, err := pgx.ConnectConfig(t.Context(), a.owner.Config())
	require.NoError(t, err)
	stop, more := make(chan struct{}), make(chan struct{})
	var wait sync.WaitGroup
	defer func() { // before the fixture's connections are closed
		close(stop)
		wait.Wait()
		_ = noise.Close(context.Background())
	}()
	wait.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-more:
			}
			if _, err := noise.Exec(t.Context(), "CREATE VIEW noise AS SELECT 1; DROP VIEW noise", pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 2 {
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if w := a.get("/shelves?select=books(*)"); w.Code != 200 || !strings.HasPrefix(w.Body.String(), `[{"books":`) {
					t.Errorf("%d %s", w.Code, w.Body)
					return
				}
			}
		})
	}
	for range 8 {
		more <- struct{}{}
		a.exec("ALTER TABLE books ADD CONSTRAINT one UNIQUE (shelf)")
		require.Equal(t, `[{"books":{"shelf": 1}}]`, a.get("/shelves?select=books(*)").Body.String())
		a.exec("ALTER TABLE books DROP CONSTRAINT one")
		require.Equal(t, `[{"books":[{"shelf": 1}]}]`, a.get("/shelves?select=books(*)").Body.String())
	}
}

// How large a schema is, is the tenant's to choose, but not that a connection breaks by it.
func TestSchemaTooLarge(t *testing.T) {
	t.Parallel()
	a := fixture(t, rest.Options{Cache: schema.Options{Document: 1000}})
	for range 2 {
		w := a.get("/tasks")
		require.Equal(t, http.StatusBadRequest, w.Code)
		require.Contains(t, w.Body.String(), `"schema_too_large"`)
		require.Equal(t, byte('I'), a.router.conn.TxStatus())
	}
}
