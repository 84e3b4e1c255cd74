package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/admintest"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/internal/leaktest"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/problem"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func open(t *testing.T, url string) *client.Client {
	t.Helper()
	c, err := client.New(url, admintest.Token(adminapi.RoleAdmin))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestCallsOfARealControlPlane(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	f := admintest.Start(t, catalogtest.Open(t))
	c := open(t, f.URL)
	me, err := c.Whoami(ctx)
	require.NoError(t, err)
	require.Equal(t, api.Identity{Name: "the-admin", Role: "admin", Method: "tokens file", Grants: []api.Grant{{Role: "admin", All: true}}}, me)

	op, err := c.CreateTenant(ctx, api.CreateTenant{ID: "acme", Shard: "s1"}, client.Change{Reason: "test"})
	require.NoError(t, err)
	require.True(t, op.Final())
	_, err = c.CreateTenant(ctx, api.CreateTenant{ID: "acme"}, client.Change{})
	require.True(t, client.IsCode(err, "already_exists"), "%v", err)
	var refusal *client.Error
	require.ErrorAs(t, err, &refusal)
	require.NotEmpty(t, refusal.Hint)
	p, err := c.Placement(ctx, "acme")
	require.NoError(t, err)
	require.NoError(t, p.Validate())
	at, err := c.ShardAddress(ctx, "s1")
	require.NoError(t, err)
	require.Equal(t, uint16(2), at.Port)
	_, err = c.Tenant(ctx, "../shards") // stays one path segment
	require.True(t, client.IsCode(err, "no_such_route") || client.IsCode(err, "invalid_id"), "%v", err)

	for tenant, err := range c.Tenants(ctx, client.TenantFilter{Shard: "s1"}) {
		require.NoError(t, err)
		require.Equal(t, "acme", string(tenant.ID))
	}
	plan, err := c.PlanMove(ctx, "acme", api.MoveTenant{To: "s2"})
	require.NoError(t, err)
	require.True(t, plan.Feasible)
	access, err := c.GrantAccess(ctx, "acme", api.GrantAccess{As: "ro"}, "look")
	require.NoError(t, err)
	require.Equal(t, "ro", access.As)
}

func TestWatchSeesEveryPhaseAndOutlivesTheControlPlane(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	f := admintest.Start(t, catalogtest.Open(t))
	c := open(t, f.URL)
	_, err := c.CreateTenant(ctx, api.CreateTenant{ID: "acme", Shard: "s1"}, client.Change{})
	require.NoError(t, err)
	op, err := c.MoveTenant(ctx, "acme", api.MoveTenant{To: "s2"}, client.Change{})
	require.NoError(t, err)

	stop := errors.New("enough")
	seen, err := c.Watch(ctx, op.ID, func(op api.Operation) error {
		if op.Progress.Percent == 40 {
			return stop
		}
		return nil
	})
	require.ErrorIs(t, err, stop)
	require.Equal(t, "copying data", seen.Progress.Phase)

	halfway, cancel := context.WithCancel(ctx)
	_, err = c.Watch(halfway, op.ID, func(api.Operation) error { cancel(); return nil })
	require.ErrorIs(t, err, context.Canceled)

	// The control plane goes away, the operation ends meanwhile, and it comes back.
	addr := strings.TrimPrefix(f.URL, "http://")
	first := true
	final, err := c.Watch(ctx, op.ID, func(api.Operation) error {
		if first {
			first = false
			f.Stop()
			close(f.Domain.Gate)
			time.AfterFunc(300*time.Millisecond, func() { f.Serve(addr) })
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, "done", final.State)
	require.JSONEq(t, `{"pause_ms":12.5,"bytes":10}`, string(final.Receipt))

	_, err = c.Watch(ctx, "0190a0a0-0000-7000-8000-000000000000", nil)
	require.True(t, client.IsCode(err, "not_found"), "%v", err)
}

// script answers with one handler after the other.
func script(t *testing.T, handlers ...http.HandlerFunc) (*client.Client, *atomic.Int64) {
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := int(n.Add(1)) - 1
		handlers[min(i, len(handlers)-1)](w, r)
	}))
	t.Cleanup(s.Close)
	return open(t, s.URL), &n
}

func say(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { problem.Write(w, problem.New(status, code, "d", "h")) }
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestWhatIsSentAgain(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	keys := map[string]bool{}
	good := func(w http.ResponseWriter, r *http.Request) {
		keys[r.Header.Get(api.HeaderIdempotencyKey)] = true
		_, _ = w.Write([]byte(`{"id":"x"}`))
	}
	noteKey := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			keys[r.Header.Get(api.HeaderIdempotencyKey)] = true
			next(w, r)
		}
	}
	// A keyed change is, under the same key.
	c, n := script(t, noteKey(hangUp), noteKey(say(503, "catalog_unavailable")), noteKey(say(409, "request_under_way")), good)
	_, err := c.SuspendTenant(ctx, "acme", client.Change{})
	require.NoError(t, err)
	require.Equal(t, int64(4), n.Load())
	require.Len(t, keys, 1)
	// There is an end to it.
	c, n = script(t, say(503, "catalog_unavailable"))
	_, err = c.Tenant(ctx, "acme")
	require.True(t, client.IsCode(err, "catalog_unavailable"))
	require.Equal(t, int64(4), n.Load())
	// A refusal is final.
	for _, status := range []int{400, 401, 403, 404, 409, 422, 500} {
		c, n = script(t, say(status, "no"))
		_, err = c.SuspendTenant(ctx, "acme", client.Change{})
		require.True(t, client.IsCode(err, "no"))
		require.Equal(t, int64(1), n.Load())
	}
	// Each grant is another login: not sent again.
	c, n = script(t, hangUp)
	_, err = c.GrantAccess(ctx, "acme", api.GrantAccess{}, "")
	require.ErrorIs(t, err, client.ErrUnreachable)
	require.Equal(t, int64(1), n.Load())
}

func TestAnswersOfStrangers(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	c, _ := script(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello")) })
	_, err := c.Tenant(ctx, "acme")
	require.ErrorContains(t, err, "not what the admin API answers")
	// A token is not carried along by a redirect.
	elsewhere, n := script(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	c, _ = script(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL(), http.StatusFound) })
	_, err = c.Tenant(ctx, "acme")
	require.True(t, client.IsCode(err, "http_302"), "%v", err)
	require.Zero(t, n.Load())

	for _, bad := range []string{"", "127.0.0.1:7400", "ftp://x", "http://", "http://u:p@x", "http://x?y", "http://x#y", "://"} {
		_, err := client.New(bad, "t")
		require.Error(t, err, bad)
	}
	c = open(t, "http://127.0.0.1:1")
	_, err = c.Tenant(ctx, "acme")
	require.ErrorIs(t, err, client.ErrUnreachable)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = c.Tenant(ended, "acme")
	require.ErrorIs(t, err, context.Canceled)
}

func TestNothingIsLeftBehind(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	c, _ := script(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("event: operation\ndata: {\"id\":\"x\",\"state\":\"done\"}\n\n"))
	})
	op, err := c.Watch(testContext(t), "x", func(api.Operation) error { return nil })
	require.NoError(t, err)
	require.Equal(t, "done", op.State)
	c.Close()
	leaktest.None(t, ignore, goleak.IgnoreTopFunction("net/http/httptest.(*Server).goServe.func1"), goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"))
}
