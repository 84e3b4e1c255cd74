package provision_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

func TestCreateOnTheSpotAndFromThePool(t *testing.T) {
	w := newWorld(t, provision.Options{WarmPool: 2}, "a")
	w.run(w.engine.Run)
	cold := w.create("cold")
	w.serves(cold)

	stop := w.run(w.Run)
	pgtest.Eventually(t, "the pool fills", func() bool { return w.ready("a") == 2 })
	stop()
	op, err := w.Create(w.ctx(), provision.CreateSpec{ID: "warm", DisplayName: "Warm & Co"}, tester, "k")
	require.NoError(t, err)
	require.Equal(t, operation.Done, op.State, "nothing is left to do")
	var receipt provision.CreateReceipt
	require.NoError(t, json.Unmarshal(op.Receipt, &receipt))
	require.True(t, receipt.Warm)
	w.serves(receipt.Placement)
	tenant, err := w.store.GetTenant(w.ctx(), "warm")
	require.NoError(t, err)
	require.Equal(t, "Warm & Co", tenant.DisplayName)
	require.Equal(t, receipt.Placement, tenant.Placement)
	require.Equal(t, 1, w.ready("a"))

	// The same request again is the same operation; another one with its key is refused.
	again, err := w.Create(w.ctx(), provision.CreateSpec{ID: "warm", DisplayName: "Warm & Co"}, tester, "k")
	require.NoError(t, err)
	require.Equal(t, op.ID, again.ID)
	_, err = w.Create(w.ctx(), provision.CreateSpec{ID: "other"}, tester, "k")
	require.ErrorIs(t, err, catalog.ErrKeyReused)
	require.Equal(t, 1, w.ready("a"))
}

func TestCreateRefuses(t *testing.T) {
	w := newWorld(t, provision.Options{}, "a", "b")
	w.run(w.engine.Run)
	w.create("acme")
	catalogTx(w, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.store.SetShardState(ctx, tx, "b", []catalog.ShardState{catalog.ShardActive}, catalog.ShardCordoned)
		return err
	})
	for _, c := range []struct {
		spec provision.CreateSpec
		err  error
	}{
		{provision.CreateSpec{ID: "acme"}, catalog.ErrExists},
		{provision.CreateSpec{ID: "Acme"}, shardmap.ErrInvalidID},
		{provision.CreateSpec{ID: "x", Fit: catalog.Fit{Shard: "nowhere"}}, catalog.ErrNotFound},
		{provision.CreateSpec{ID: "x", Fit: catalog.Fit{Shard: "b"}}, catalog.ErrConflict},
		{provision.CreateSpec{ID: "x", Fit: catalog.Fit{Region: "mars"}}, catalog.ErrNoRoom},
	} {
		_, err := w.Create(w.ctx(), c.spec, tester, "")
		require.ErrorIs(t, err, c.err, "%+v", c.spec)
	}
	ops, _, err := w.engine.List(w.ctx(), operation.Filter{Tenant: "x"}, catalog.Page{})
	require.NoError(t, err)
	require.Empty(t, ops)
}

// Many at once, with and without the pool, each request sent twice: every tenant is made once.
func TestCreateManyAtOnce(t *testing.T) {
	w := newWorld(t, provision.Options{WarmPool: 3}, "a", "b")
	w.run(w.engine.Run)
	w.run(w.Run)
	pgtest.Eventually(t, "a pool fills", func() bool { return w.ready("a") > 1 })
	const n = 10
	ids := make([][2]string, n)
	var wg sync.WaitGroup
	for i := range n {
		for j := range 2 {
			wg.Go(func() {
				id := shardmap.TenantID(fmt.Sprintf("many-%d", i))
				op, err := w.Create(w.ctx(), provision.CreateSpec{ID: id}, tester, string(id))
				if err != nil {
					t.Errorf("%s: %v", id, err)
					return
				}
				ids[i][j] = op.ID
			})
		}
	}
	wg.Wait()
	seen := map[string]bool{}
	for i := range n {
		require.Equal(t, ids[i][0], ids[i][1])
		w.done(w.engine.Get(w.ctx(), ids[i][0]))
		p, err := w.store.GetPlacement(w.ctx(), shardmap.TenantID(fmt.Sprintf("many-%d", i)))
		require.NoError(t, err)
		require.False(t, seen[p.Database])
		seen[p.Database] = true
		w.serves(p)
	}
}

func TestSuspendResumeDeleteRestorePurge(t *testing.T) {
	w := newWorld(t, provision.Options{DeleteGrace: time.Hour}, "a")
	w.run(w.engine.Run)
	p := w.create("acme")
	client, err := w.login(p)
	require.NoError(t, err)
	defer client.Close(w.ctx()) //nolint:errcheck // closed by the suspension

	_, err = w.Resume(w.ctx(), "acme", tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
	_, err = w.Suspend(w.ctx(), "nobody", tester, "")
	require.ErrorIs(t, err, catalog.ErrNotFound)

	op := w.done(w.Suspend(w.ctx(), "acme", tester, "s"))
	again, err := w.Suspend(w.ctx(), "acme", tester, "s")
	require.NoError(t, err)
	require.Equal(t, op.ID, again.ID)
	_, err = client.Exec(w.ctx(), "SELECT 1")
	require.Error(t, err, "attached clients are out")
	w.refuses(p)
	_, err = w.Suspend(w.ctx(), "acme", tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)

	w.done(w.Resume(w.ctx(), "acme", tester, ""))
	w.serves(p)

	w.done(w.Delete(w.ctx(), "acme", tester, ""))
	w.refuses(p)
	_, err = w.Delete(w.ctx(), "acme", tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
	_, err = w.Create(w.ctx(), provision.CreateSpec{ID: "acme"}, tester, "")
	require.ErrorIs(t, err, catalog.ErrExists)

	w.done(w.Restore(w.ctx(), "acme", tester, ""))
	w.serves(p)
	now, err := w.store.GetPlacement(w.ctx(), "acme")
	require.NoError(t, err)
	require.Equal(t, shardmap.Active, now.State)
	require.Equal(t, p.Epoch+4, now.Epoch)
}

func TestADeletedTenantIsPurgedAfterItsGrace(t *testing.T) {
	w := newWorld(t, provision.Options{DeleteGrace: time.Second}, "a")
	w.run(w.engine.Run)
	p := w.create("acme")
	w.done(w.Delete(w.ctx(), "acme", tester, ""))
	w.run(w.Run)
	var tenant catalog.Tenant
	pgtest.Eventually(t, "it is purged", func() (gone bool) {
		var err error
		tenant, err = w.store.GetTenant(w.ctx(), "acme")
		require.NoError(t, err)
		return tenant.PurgedAt != nil
	})
	require.False(t, w.exists("a", p.Database))
	_, _, err := w.secrets.Get(w.ctx(), secret.DatabaseAuth(p.Database))
	require.ErrorIs(t, err, secret.ErrNotFound)
	_, err = w.store.GetDatabase(w.ctx(), "a", p.Database)
	require.ErrorIs(t, err, catalog.ErrNotFound)
	_, err = w.Restore(w.ctx(), "acme", tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
	_, err = w.Create(w.ctx(), provision.CreateSpec{ID: "acme"}, tester, "")
	require.ErrorIs(t, err, catalog.ErrExists, "IDs are never reused")
}

func TestAddShard(t *testing.T) {
	w := newWorld(t, provision.Options{}, "a")
	good := spec(t, "a")
	again, err := w.AddShard(w.ctx(), good, tester)
	require.NoError(t, err)
	require.Equal(t, catalog.ShardActive, again.State)

	other := good
	other.Shard.ID = "other"
	_, err = w.AddShard(w.ctx(), other, tester)
	require.ErrorIs(t, err, catalog.ErrConflict, "the server is shard a")

	wrong := good
	wrong.Admin.Password = "not it"
	_, err = w.AddShard(w.ctx(), wrong, tester)
	require.ErrorIs(t, err, shard.ErrUnfit)
	require.NotContains(t, err.Error(), "not it")
	wrong = good
	wrong.Console.Password = "not it"
	_, err = w.AddShard(w.ctx(), wrong, tester)
	require.ErrorIs(t, err, shard.ErrUnfit)
	wrong = good
	wrong.Admin.User = ""
	_, err = w.AddShard(w.ctx(), wrong, tester)
	require.ErrorIs(t, err, provision.ErrInvalid)
	wrong = good
	wrong.Shard.RoutesFile = "/nonexistent/routes.ini"
	_, err = w.AddShard(w.ctx(), wrong, tester)
	require.ErrorIs(t, err, shard.ErrUnfit)

	// None of it replaced the good logins.
	login, _, err := w.secrets.Get(w.ctx(), secret.ShardAdmin("a"))
	require.NoError(t, err)
	require.Equal(t, good.Admin.Password, login.Password)
}

// One server registered under two names at once is one shard, not two.
func TestAServerIsOneShard(t *testing.T) {
	w := newWorld(t, provision.Options{})
	server := pgtest.Shard(t)
	var wg sync.WaitGroup
	results := make([]error, 4)
	for i := range results {
		wg.Go(func() {
			id := shardmap.ShardID(fmt.Sprintf("name%d", i))
			_, results[i] = w.AddShard(w.ctx(), provision.ShardSpec{Shard: shardtest.Row(id, server), Admin: server.Admin, Console: server.Console}, tester)
		})
	}
	wg.Wait()
	shards, err := w.store.ListShards(w.ctx())
	require.NoError(t, err)
	require.Len(t, shards, 1)
	refused := 0
	for _, err := range results {
		if err != nil {
			require.ErrorIs(t, err, catalog.ErrConflict)
			refused++
		}
	}
	require.Equal(t, len(results)-1, refused)
}

func catalogTx(w *world, fn func(ctx context.Context, tx pgx.Tx) error) {
	w.t.Helper()
	require.NoError(w.t, w.store.Tx(w.ctx(), fn))
}
