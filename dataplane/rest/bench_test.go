package rest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/dataplane/rest"
)

// BenchmarkGet is a request by key through the handler; BenchmarkBare is the
// least that any server must do for the same answer: the difference is ours.
func BenchmarkGet(b *testing.B) {
	a := fixture(b, rest.Options{})
	r := httptest.NewRequest(http.MethodGet, "/rest/v1/tasks?id=eq.1", nil).WithContext(b.Context())
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		a.engine.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
}

func BenchmarkBare(b *testing.B) {
	a := fixture(b, rest.Options{})
	settings := "SELECT set_config('search_path', $1, true), set_config('role', $2, true), set_config('request.jwt.claims', $3, true), set_config('transaction_read_only', 'on', true)"
	role := []byte(a.router.database + "_rw")
	b.ReportAllocs()
	for b.Loop() {
		var batch pgconn.Batch
		batch.ExecParams(settings, [][]byte{[]byte("public"), role, []byte("{}")}, nil, nil, nil)
		batch.ExecParams("SELECT coalesce(json_agg(s), '[]') FROM (SELECT * FROM public.tasks WHERE id = $1) s", [][]byte{[]byte("1")}, nil, nil, nil)
		if _, err := a.router.conn.ExecBatch(b.Context(), &batch).ReadAll(); err != nil {
			b.Fatal(err)
		}
	}
}
