package access_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
	wire "github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var tester = catalog.Actor{Name: "tester", Role: "admin", Reason: "a test"}

// servers stand for the shards: they remember the roles.
type servers struct {
	mu    sync.Mutex
	roles map[string]bool
	fail  error
}

func (s *servers) CreateCustomRole(_ context.Context, on shardmap.ShardID, database, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[fmt.Sprint(on, database, name)] = true
	return s.fail
}

func (s *servers) DropCustomRole(_ context.Context, on shardmap.ShardID, database, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.roles, fmt.Sprint(on, database, name))
	return s.fail
}

type world struct {
	*access.Service
	store   *catalog.Store
	engine  *operation.Engine
	servers *servers
}

func newWorld(t *testing.T) *world {
	store := catalogtest.Open(t)
	catalogtest.AddShard(t, store, "s1")
	catalogtest.AddTenant(t, store, "acme", "s1", 1)
	w := &world{store: store, servers: &servers{roles: map[string]bool{}}}
	w.engine = operation.New(store, operation.Options{Logger: slog.New(slog.DiscardHandler)})
	w.Service = access.New(store, w.engine, w.servers, slog.New(slog.DiscardHandler))
	return w
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (w *world) count(t *testing.T, sql string) (n int) {
	t.Helper()
	require.NoError(t, w.store.Pool().QueryRow(testContext(t), sql).Scan(&n))
	return n
}

func p[T any](v T) *T { return &v }

// Each change is one version, one row of the outbox and one audit record, and
// of those who change at once none is lost.
func TestEveryChangeIsAVersion(t *testing.T) {
	t.Parallel()
	ctx, w := testContext(t), newWorld(t)
	const n = 8
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, _, err := w.CreateKey(ctx, "acme", access.KeySpec{Role: "viewer"}, tester); err != nil {
				t.Errorf("key: %v", err)
			}
			for { // adds an attribute to those that are there, as an operator's tool does
				now, err := w.Tenant(ctx, "acme")
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
				attributes := map[string]string{fmt.Sprint("a", i): "x"}
				for k, v := range now.Attributes {
					attributes[k] = v
				}
				_, err = w.ChangeTenant(ctx, "acme", access.Change{Attributes: &attributes}, &now.Version, tester)
				if err == nil {
					return
				}
				if !errors.Is(err, access.ErrChanged) {
					t.Errorf("change: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	doc, err := w.Tenant(ctx, "acme")
	require.NoError(t, err)
	require.NoError(t, doc.Validate())
	require.EqualValues(t, 2*n, doc.Version)
	require.Len(t, doc.Attributes, n)
	require.Len(t, doc.Keys, n)
	require.Equal(t, 2*n, w.count(t, `select count(*) from outbox where topic = 'access' and key = 'acme'`))
	require.Equal(t, 2*n, w.count(t, `select count(*) from audit_outbox`))
	_, err = w.ChangeTenant(ctx, "acme", access.Change{Attributes: &doc.Attributes}, p(int64(1)), tester)
	require.NoError(t, err, "what is there already is no change")
	require.Equal(t, 2*n, w.count(t, `select count(*) from audit_outbox`))

	// What is rolled back leaves nothing.
	w.servers.fail = errors.New("no route to host")
	_, err = w.CreateRole(ctx, "acme", "analyst", "", tester, "")
	require.ErrorIs(t, err, access.ErrShard)
	require.Equal(t, 2*n, w.count(t, `select count(*) from audit_outbox`))
	require.Zero(t, w.count(t, `select count(*) from operations`))
}

func TestRolesAndMovesKeepOutOfEachOthersWay(t *testing.T) {
	t.Parallel()
	ctx, w := testContext(t), newWorld(t)
	_, err := w.CreateRole(ctx, "acme", "analyst", "", tester, "k")
	require.NoError(t, err)
	_, err = w.CreateRole(ctx, "acme", "analyst", "", tester, "k")
	require.NoError(t, err, "the same request")
	require.Len(t, w.servers.roles, 1)
	require.ErrorIs(t, w.DropRole(ctx, "acme", "nobodys", tester, ""), catalog.ErrNotFound)
	_, err = w.store.Pool().Exec(ctx, `insert into operations (id, kind, tenant, state, data, created_by, actor)
		values (gen_random_uuid(), 'tenant-move', 'acme', 'running', '{}', 'x', '{}')`)
	require.NoError(t, err)
	require.ErrorIs(t, w.DropRole(ctx, "acme", "analyst", tester, ""), catalog.ErrBusy)
	_, err = w.CreateRole(ctx, "acme", "late", "", tester, "")
	require.ErrorIs(t, err, catalog.ErrBusy)
	_, err = w.store.Pool().Exec(ctx, `update operations set state = 'done', finished_at = clock_timestamp() where kind = 'tenant-move'`)
	require.NoError(t, err)
	require.NoError(t, w.DropRole(ctx, "acme", "analyst", tester, ""))
	require.Empty(t, w.servers.roles)
}

func TestWhatIsOverIsPruned(t *testing.T) {
	t.Parallel()
	ctx, w := testContext(t), newWorld(t)
	_, err := w.RevokeToken(ctx, "acme", "short", time.Now().Add(time.Minute), tester)
	require.NoError(t, err)
	_, err = w.RevokeToken(ctx, "acme", "long", time.Now().Add(2*time.Hour), tester)
	require.NoError(t, err)
	_, _, err = w.CreateKey(ctx, "acme", access.KeySpec{Role: "editor", Expires: time.Now().Add(time.Minute)}, tester)
	require.NoError(t, err)
	gone, _, err := w.CreateKey(ctx, "acme", access.KeySpec{Role: "editor"}, tester)
	require.NoError(t, err)
	kept, _, err := w.CreateKey(ctx, "acme", access.KeySpec{Role: "editor"}, tester)
	require.NoError(t, err)
	_, err = w.RevokeKey(ctx, "acme", gone.ID, tester)
	require.NoError(t, err)
	_, err = w.store.Pool().Exec(ctx, `insert into audit_events (id) values (gen_random_uuid())`)
	require.NoError(t, err)
	before, err := w.Tenant(ctx, "acme")
	require.NoError(t, err)
	require.NoError(t, w.Prune(ctx, access.DefaultKept))
	after, err := w.Tenant(ctx, "acme")
	require.NoError(t, err)
	require.Equal(t, before, after, "nothing is over for long enough")

	// As if an hour had passed.
	hourOn := -time.Hour
	require.NoError(t, w.Prune(ctx, access.Kept{Keys: hourOn, Tokens: hourOn, Events: hourOn}))
	after, err = w.Tenant(ctx, "acme")
	require.NoError(t, err)
	require.Equal(t, before.Version+1, after.Version)
	require.Len(t, after.Revoked, 1)
	require.Equal(t, "long", after.Revoked[0].ID)
	require.Len(t, after.Keys, 1)
	require.Equal(t, kept.ID, after.Keys[0].ID)
	keys, _, err := w.Keys(ctx, "acme", catalog.Page{})
	require.NoError(t, err)
	require.Len(t, keys, 1)
	require.Zero(t, w.count(t, `select count(*) from audit_events`))
}

func TestBoundsOfADocument(t *testing.T) {
	t.Parallel()
	ctx, w := testContext(t), newWorld(t)
	_, err := w.RevokeToken(ctx, "acme", "first", time.Now().Add(time.Hour), tester)
	require.NoError(t, err)
	_, err = w.store.Pool().Exec(ctx, `insert into revoked_tokens (tenant, id, expires_at, revoked_by)
		select 'acme', 'x' || i, clock_timestamp() + interval '1 hour', 'x' from generate_series(2, $1) i`, wire.MaxRevoked)
	require.NoError(t, err)
	_, err = w.RevokeToken(ctx, "acme", "one too many", time.Now().Add(time.Hour), tester)
	require.ErrorIs(t, err, access.ErrInvalid)
	before, err := w.Tenant(ctx, "acme")
	require.NoError(t, err)
	t0 := time.Now().Add(-time.Minute)
	after, err := w.RevokeTokens(ctx, "acme", tester)
	require.NoError(t, err)
	require.Equal(t, before.Version+1, after.Version)
	require.True(t, after.NotBefore.After(t0))
	_, err = w.ChangeTenant(ctx, "acme", access.Change{Policies: &[]wire.Policy{{Name: "p", Text: "permit"}}}, nil, tester)
	require.ErrorIs(t, err, access.ErrInvalid)
	_, err = w.ChangeTenant(ctx, "nobody", access.Change{Plan: p("")}, nil, tester)
	require.ErrorIs(t, err, catalog.ErrNotFound)
}

func TestAPurgedTenantHasNothing(t *testing.T) {
	t.Parallel()
	ctx, w := testContext(t), newWorld(t)
	require.NoError(t, w.SetPlan(ctx, "pro", wire.Limits{Rate: 1}, tester))
	_, err := w.ChangeTenant(ctx, "acme", access.Change{Plan: p("pro"), Attributes: &map[string]string{"tier": "gold"}}, nil, tester)
	require.NoError(t, err)
	_, err = w.CreateRole(ctx, "acme", "analyst", "", tester, "")
	require.NoError(t, err)
	_, _, err = w.CreateKey(ctx, "acme", access.KeySpec{Role: "analyst"}, tester)
	require.NoError(t, err)
	_, err = w.RevokeToken(ctx, "acme", "x", time.Now().Add(time.Hour), tester)
	require.NoError(t, err)
	before, err := w.Tenant(ctx, "acme")
	require.NoError(t, err)
	past := time.Now().Add(-time.Hour)
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.store.SetTenantState(ctx, tx, "acme", []shardmap.State{shardmap.Active}, shardmap.Deleted, &past)
		return err
	})
	_, _, err = w.CreateKey(ctx, "acme", access.KeySpec{Role: "viewer"}, tester)
	require.ErrorIs(t, err, catalog.ErrConflict)
	_, err = w.CreateRole(ctx, "acme", "late", "", tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
	deleted, err := w.Tenant(ctx, "acme")
	require.NoError(t, err)
	require.Equal(t, before, deleted, "it may be restored")
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error { return w.store.MarkPurged(ctx, tx, "acme") })
	after, err := w.Tenant(ctx, "acme")
	require.NoError(t, err)
	require.False(t, access.Own(after))
	require.Equal(t, before.Version+1, after.Version)
	require.NoError(t, w.DeletePlan(ctx, "pro", tester))
	_, err = w.RevokeTokens(ctx, "acme", tester)
	require.ErrorIs(t, err, catalog.ErrConflict)
}
