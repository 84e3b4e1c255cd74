package rest_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// A change of schema is seen by the first request that needs it, although
// nothing told the handler and its cache is not due.
func TestSchemaChanges(t *testing.T) {
	a := fixture(t, rest.Options{Cache: schema.Options{TTL: time.Hour}})
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
