package ledger_test

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/freehold-db/freehold/internal/leaktest"
	"github.com/freehold-db/freehold/internal/ledger"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// drive runs traffic of two tenants over nodes until the fake has seen so many
// requests, however long that takes, and returns the receipt.
func drive(t *testing.T, f *fake, requests int64, nodes ...string) ledger.Receipt {
	t.Helper()
	c, err := ledger.New(ledger.Config{Nodes: append(nodes, f.URL), Tenants: tenants(300, "acme", "rival")})
	require.NoError(t, err)
	require.NoError(t, c.Open(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f.callAfter(requests, cancel)
	c.Run(ctx)
	require.ErrorIs(t, ctx.Err(), context.Canceled, "too few requests came")
	r, err := c.Audit(t.Context(), f.source)
	require.NoError(t, err)
	return r
}

func TestGoodServerHasAGoodReceipt(t *testing.T) {
	f := newFake(t)
	leaks := goleak.IgnoreCurrent()
	r := drive(t, f, 300)
	require.NoError(t, r.Wrong())
	require.Greater(t, r.Requests, int64(100))
	require.Equal(t, r.Requests, r.Reads+r.Writes)
	require.Equal(t, r.Writes, r.Acknowledged)
	require.Positive(t, r.RowsRead)
	require.Len(t, r.Tenants, 2)
	require.Positive(t, r.Databases.Checked)
	require.Equal(t, r.Databases, r.API)
	for _, n := range r.Tenants {
		require.Positive(t, n.LongestGap)
	}
	text, err := json.Marshal(r)
	require.NoError(t, err)
	require.NotContains(t, string(text), "failures")
	leaktest.None(t, leaks, goleak.IgnoreTopFunction("net/http.(*conn).serve"), goleak.IgnoreAnyFunction("net/http.(*conn).serve"))
}

// Each way to do wrong must show, and show as what it is.
func TestWrongsAreNoticed(t *testing.T) {
	every := func(n int64, of string, do func(w http.ResponseWriter, do func())) func(*fake) {
		return func(f *fake) {
			var seen atomic.Int64
			f.onWrite = func(w http.ResponseWriter, r *http.Request, put func()) bool {
				if r.Method+" "+r.URL.Path[len("/rest/v1/"):] != of || seen.Add(1)%n != 0 {
					return false
				}
				do(w, put)
				return true
			}
		}
	}
	hijack := func(w http.ResponseWriter) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	for name, c := range map[string]struct {
		do    func(*fake)
		shows func(ledger.Receipt) int64
	}{
		"acknowledged and not done": {every(5, "POST entries", func(w http.ResponseWriter, _ func()) { w.WriteHeader(201) }),
			func(r ledger.Receipt) int64 { return min(r.Databases.Lost, r.API.Lost, r.ReadMissing) }},
		"done twice, without a key": {every(3, "POST activity", func(w http.ResponseWriter, do func()) { do(); do(); w.WriteHeader(201) }),
			func(r ledger.Receipt) int64 { return min(r.Databases.Doubled, r.API.Doubled) }},
		"done twice, with a key": {every(5, "POST entries", func(w http.ResponseWriter, do func()) {
			do()
			w.WriteHeader(409)
			_, _ = w.Write([]byte(`{"code":"23505"}`))
		}), func(r ledger.Receipt) int64 { return r.Databases.Doubled }},
		"refused and done all the same": {every(5, "POST entries", func(w http.ResponseWriter, do func()) { do(); w.WriteHeader(500) }),
			func(r ledger.Receipt) int64 { return min(r.Databases.Ghosts, r.Failed) }},
		"update forgotten": {func(f *fake) {
			every(1, "PATCH accounts", func(w http.ResponseWriter, _ func()) { w.WriteHeader(204) })(f)
		}, func(r ledger.Receipt) int64 { return r.Databases.Lost }},
		"delete forgotten": {every(1, "DELETE entries", func(w http.ResponseWriter, _ func()) { w.WriteHeader(204) }),
			func(r ledger.Receipt) int64 { return r.Databases.Lost }},
		"another tenant's rows": {func(f *fake) { f.onRead = func(string) string { return "rival" } },
			func(r ledger.Receipt) int64 { return r.ReadForeign }},
		"connection broken before": {every(5, "POST entries", func(w http.ResponseWriter, _ func()) { hijack(w) }),
			func(r ledger.Receipt) int64 { return r.Unknown }},
		"connection broken after": {every(5, "POST entries", func(w http.ResponseWriter, do func()) { do(); hijack(w) }),
			func(r ledger.Receipt) int64 { return min(r.Unknown, r.Databases.UnknownDone) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			c.do(f)
			r := drive(t, f, 400)
			require.Error(t, r.Wrong())
			require.Positive(t, c.shows(r), "%+v", r)
			if r.Failed+r.Unknown > 0 {
				require.NotEmpty(t, r.Failures)
			}
		})
	}
}

func TestRefusedConnectionGoesToTheNextNode(t *testing.T) {
	t.Parallel()
	gone := newFake(t)
	gone.Close()
	r := drive(t, newFake(t), 100, gone.URL)
	require.NoError(t, r.Wrong())
	require.Positive(t, r.TurnedAway)

	c, err := ledger.New(ledger.Config{Nodes: []string{gone.URL}, Tenants: tenants(10, "acme")})
	require.NoError(t, err)
	require.ErrorContains(t, c.Open(t.Context()), "no node takes connections")
}

func TestPauseShows(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	const pause = 2 * time.Second
	var once sync.Once
	f.onWrite = func(http.ResponseWriter, *http.Request, func()) bool {
		once.Do(func() { // traffic flows
			go func() {
				f.gate.Lock()
				time.Sleep(pause)
				f.gate.Unlock()
			}()
		})
		return false
	}
	r := drive(t, f, 500) // of which some three hundred are due while nobody answers
	require.NoError(t, r.Wrong())
	for _, n := range r.Tenants {
		gap := time.Duration(n.LongestGap) // a busy client hears of an answer late
		require.Greater(t, gap, pause/2)
		require.Less(t, gap, pause+10*time.Second)
	}
	require.Greater(t, time.Duration(r.P95), 100*time.Millisecond, "the wait of all that was due counts")
}

func TestNoReceiptOverNothing(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, err := ledger.New(ledger.Config{Nodes: []string{f.URL}, Tenants: tenants(1, "acme")})
	require.NoError(t, err)
	_, err = c.Audit(t.Context(), f.source)
	require.ErrorIs(t, err, ledger.ErrNothingMeasured, "never ran")
	require.NoError(t, c.Open(t.Context()))
	_, err = c.LongestGap("acme", time.Now().Add(-time.Hour), time.Now())
	require.ErrorIs(t, err, ledger.ErrNothingMeasured)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.Run(ctx)
	_, err = c.Audit(t.Context(), f.source)
	require.ErrorIs(t, err, ledger.ErrNothingMeasured, "ran for no time")
}

func TestPostgresSource(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(t.Context()) //nolint:errcheck // a test's
	_, err = conn.Exec(t.Context(), `
		CREATE TABLE accounts (id bigint PRIMARY KEY, owner_tag text, balance numeric(18,2));
		CREATE TABLE entries (id uuid PRIMARY KEY, account_id bigint, tenant text);
		CREATE TABLE activity (what text, detail jsonb);
		INSERT INTO accounts VALUES (1, 'acme', 7), (2, 'acme', 9), (3, 'rival', 0);
		INSERT INTO entries SELECT gen_random_uuid(), 1 + (i > 5)::int, CASE WHEN i = 1 THEN 'rival' ELSE 'acme' END FROM generate_series(1, 8) i;
		INSERT INTO activity SELECT 'ledger x acme', jsonb_build_object('id', '00000000-0000-0000-0000-000000000001', 'tenant', 'acme') FROM generate_series(1, 2);
		INSERT INTO activity VALUES ('ledger y rival', '{"tenant": "rival"}'), ('other', NULL)`)
	require.NoError(t, err)
	look := ledger.Postgres(func(ctx context.Context, _ shardmap.TenantID) (*pgx.Conn, error) { return pgx.Connect(ctx, dsn) })
	f, err := look(t.Context(), ledger.Scope{Tenant: "acme", Account: 1, What: "ledger x acme"})
	require.NoError(t, err)
	require.Len(t, f.Entries, 5)
	require.Len(t, f.Activity, 1)
	for _, n := range f.Activity {
		require.Equal(t, 2, n)
	}
	require.EqualValues(t, 7, f.Balance)
	require.Equal(t, 1, f.Accounts)
	require.EqualValues(t, 3, f.Foreign)
}
