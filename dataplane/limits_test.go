package dataplane_test

import (
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/access"
)

// A tenant whose requests all hang in its database, and more of which come
// than the node serves at once, keeps nobody else from being served.
func TestFloodOfOneTenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tenant("acme", 1)
	w.tenant("rival", 1)
	n := w.node(func(c *dataplane.Config) {
		c.Limits.NodeConcurrencyLeast, c.Limits.NodeConcurrency, c.Limits.TenantConcurrency = 4, 4, 100
		c.Limits.QueueFor, c.Limits.QueueTarget = 2*time.Minute, 2*time.Minute
		c.Router.AcquireFor, c.RequestFor = 2*time.Minute, 2*time.Minute
	})
	notes := n.URL() + "/rest/v1/notes"
	acme, rival := w.token("acme", "viewer"), w.token("rival", "viewer")
	for _, token := range []string{acme, rival} {
		require.Equal(t, 200, do(t, http.MethodGet, notes, token, "").status)
	}
	lock, err := w.admin(w.database("acme")).Begin(t.Context())
	require.NoError(t, err)
	_, err = lock.Exec(t.Context(), "LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)

	const flood = 40
	var answered, good atomic.Int32
	var all sync.WaitGroup
	for range flood {
		all.Go(func() {
			a := do(t, http.MethodGet, notes, acme, "")
			answered.Add(1)
			if a.status == 200 {
				good.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool {
		// Two hold a place if rival was there a moment before, else three.
		return regexp.MustCompile(`freehold_limits_waiting 3[78]\n`).MatchString(do(t, http.MethodGet, n.OpsURL()+"/metrics", "", "").body)
	}, time.Minute, 10*time.Millisecond)
	for range 20 {
		require.Equal(t, 200, do(t, http.MethodGet, notes, rival, "").status)
	}
	require.Zero(t, answered.Load())
	require.NoError(t, lock.Rollback(t.Context()))
	all.Wait()
	require.EqualValues(t, flood, good.Load(), "it is served in its turn")
}

// What a plan says holds at a node moments later, over what the node is configured with.
func TestLimitsOfAPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tenant("acme", 50)
	w.tenant("rival", 50)
	_, err := w.admin(w.database("acme")).Exec(t.Context(), `CREATE FUNCTION nap(seconds float8) RETURNS text LANGUAGE sql AS 'SELECT pg_sleep($1)::text'`)
	require.NoError(t, err)
	n := w.node(func(c *dataplane.Config) { c.MaxBody, c.MaxAnswer, c.MaxRows = 2000, 10_000, 40 })
	notes, acme, rival := n.URL()+"/rest/v1/notes", w.token("acme", "editor"), w.token("rival", "editor")
	rows := func(token string) int {
		return strings.Count(do(t, http.MethodGet, notes+"?select=id", token, "").body, `"id"`)
	}
	require.Equal(t, 40, rows(acme))

	w.publish(access.Bucket, access.FleetKey, access.Fleet{Version: 2, DefaultPlan: "free", Plans: map[string]access.Limits{
		"free":  {MaxRows: 30},
		"small": {MaxRows: 20, MaxBody: 500, MaxAnswer: 1000, StatementFor: 3 * time.Second, Rate: 1e6},
	}})
	w.publish(access.Bucket, "acme", access.Tenant{Tenant: "acme", Version: 1, Plan: "small", Limits: access.Limits{MaxRows: 25}})
	require.Eventually(t, func() bool { return rows(acme) == 25 && rows(rival) == 30 }, time.Minute, 20*time.Millisecond)

	a := do(t, http.MethodGet, notes+"?limit=20", acme, "")
	require.Equal(t, 400, a.status, a.body)
	require.Contains(t, a.body, "answer_too_large")
	require.Equal(t, 200, do(t, http.MethodGet, notes+"?limit=20", rival, "").status)
	body := `{"id":100,"owner":"x","body":"` + strings.Repeat("x", 1000) + `"}`
	require.Equal(t, 413, do(t, http.MethodPost, notes, acme, body).status)
	require.Equal(t, 201, do(t, http.MethodPost, notes, rival, body).status)
	a = do(t, http.MethodPost, n.URL()+"/rest/v1/rpc/nap", acme, `{"seconds":20}`)
	require.Equal(t, 500, a.status, a.body)
	require.Contains(t, a.body, "57014", "the statement's time")
	require.Equal(t, 200, do(t, http.MethodPost, n.URL()+"/rest/v1/rpc/nap", acme, `{"seconds":0.001}`).status)
}
