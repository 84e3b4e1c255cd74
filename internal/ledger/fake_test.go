package ledger_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/freehold-db/freehold/internal/ledger"
	"github.com/freehold-db/freehold/shardmap"
)

// fake is a small REST server over memory that can be told to do wrong: the
// ledger must notice.
type fake struct {
	*httptest.Server
	// onWrite may take over the answer to a write, before or after it is done.
	// do does the write. It returns whether it answered.
	onWrite func(w http.ResponseWriter, r *http.Request, do func()) bool
	// onRead may change the tenant whose rows are read.
	onRead func(tenant string) string

	gate sync.RWMutex // who locks it has all others answered before, and nobody while he holds it

	mu       sync.Mutex
	seen     int64  // requests
	enough   int64  // of them
	atEnough func() // called when there were so many
	tenants  map[string]*rows
}

type rows struct {
	balance  int64
	entries  map[uuid.UUID]int
	order    []uuid.UUID
	activity []uuid.UUID
}

func newFake(t *testing.T) *fake {
	f := &fake{tenants: map[string]*rows{}, onRead: func(t string) string { return t },
		onWrite: func(http.ResponseWriter, *http.Request, func()) bool { return false }}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) of(tenant string) *rows {
	r := f.tenants[tenant]
	if r == nil {
		r = &rows{entries: map[uuid.UUID]int{}}
		f.tenants[tenant] = r
	}
	return r
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.count()
	f.gate.RLock()
	defer f.gate.RUnlock()
	tenant := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	table := strings.TrimPrefix(r.URL.Path, "/rest/v1/")
	if r.Method == http.MethodGet {
		f.read(w, r, tenant, table)
		return
	}
	var body struct {
		ID      uuid.UUID
		Balance int64
		Detail  struct{ ID uuid.UUID }
	}
	_ = json.NewDecoder(r.Body).Decode(&body)
	var do func()
	switch r.Method + " " + table {
	case "POST accounts":
		_, _ = w.Write([]byte(`[{"id":1}]`))
		return
	case "POST entries":
		do = func() { f.of(tenant).entries[body.ID]++; f.of(tenant).order = append(f.of(tenant).order, body.ID) }
	case "POST activity":
		do = func() { f.of(tenant).activity = append(f.of(tenant).activity, body.Detail.ID) }
	case "PATCH accounts":
		do = func() { f.of(tenant).balance = body.Balance }
	case "DELETE entries":
		do = func() {
			delete(f.of(tenant).entries, uuid.MustParse(strings.TrimPrefix(r.URL.Query().Get("id"), "eq.")))
		}
	}
	locked := func() { f.mu.Lock(); defer f.mu.Unlock(); do() }
	if f.onWrite(w, r, locked) {
		return
	}
	locked()
	w.WriteHeader(http.StatusNoContent)
}

func (f *fake) count() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen++; f.seen == f.enough {
		f.atEnough()
	}
}

// callAfter has done called when so many more requests have come.
func (f *fake) callAfter(requests int64, done func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.enough, f.atEnough = f.seen+requests, done
}

func (f *fake) read(w http.ResponseWriter, r *http.Request, tenant, table string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := r.URL.Query()
	var out []map[string]any
	switch {
	case strings.HasPrefix(q.Get("tenant")+q.Get("owner_tag"), "neq."):
	case table == "accounts":
		out = append(out, map[string]any{"owner_tag": f.onRead(tenant), "balance": f.of(tenant).balance})
	case table == "activity" && q.Get("offset") == "0":
		for _, id := range f.of(tenant).activity {
			out = append(out, map[string]any{"detail": map[string]any{"id": id}})
		}
	case table == "entries" && strings.HasPrefix(q.Get("id"), "eq."):
		if id := uuid.MustParse(q.Get("id")[3:]); f.of(tenant).entries[id] > 0 {
			out = append(out, map[string]any{"id": id, "tenant": f.onRead(tenant)})
		}
	case table == "entries" && strings.HasPrefix(q.Get("id"), "gt."):
		for id, n := range f.of(tenant).entries { // one page: tests stay below its size
			for range n {
				out = append(out, map[string]any{"id": id})
			}
		}
	case table == "entries":
		for _, id := range f.of(tenant).order[max(0, len(f.of(tenant).order)-20):] {
			out = append(out, map[string]any{"id": id, "tenant": f.onRead(tenant)})
		}
	}
	if out == nil {
		out = []map[string]any{}
	}
	_ = json.NewEncoder(w).Encode(out)
}

// source is the database under the fake.
func (f *fake) source(_ context.Context, s ledger.Scope) (ledger.Found, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.of(string(s.Tenant))
	found := ledger.Found{Entries: map[uuid.UUID]int{}, Activity: map[uuid.UUID]int{}, Balance: r.balance, Accounts: 1}
	for id, n := range r.entries {
		found.Entries[id] = n
	}
	for _, id := range r.activity {
		found.Activity[id]++
	}
	return found, nil
}

func tenants(rate float64, ids ...shardmap.TenantID) (ts []ledger.Tenant) {
	for _, id := range ids {
		ts = append(ts, ledger.Tenant{ID: id, Token: string(id), Rate: rate})
	}
	return ts
}
