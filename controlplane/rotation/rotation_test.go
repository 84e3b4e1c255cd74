package rotation

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/publish"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/controlplane/worldtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

func TestRotate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "a")
	p := w.tenant("acme")
	first := w.document(p)
	plan, err := w.DryRun(t.Context(), "acme", worldtest.Tester)
	require.NoError(t, err)
	require.Len(t, plan, 4)
	require.Equal(t, first, w.document(p), "a dry run changes nothing")

	op, err := w.Rotate(t.Context(), "acme", worldtest.Tester, "once")
	require.NoError(t, err)
	var rec TenantReceipt
	w.Done(op, &rec)
	second := w.document(p)
	require.Equal(t, TenantReceipt{Tenant: "acme", Generation: 2, Login: second.User, Nodes: 1, Renewed: 1, Ended: rec.Ended}, rec)
	require.Equal(t, tenantdb.REST.UserAt(p.Database, tenantdb.SecondTurn), second.User)
	w.requireServed(p, first)
	again, err := w.Rotate(t.Context(), "acme", worldtest.Tester, "once")
	require.NoError(t, err)
	require.Equal(t, op.ID, again.ID)

	op, err = w.Rotate(t.Context(), "acme", worldtest.Tester, "")
	require.NoError(t, err)
	w.Done(op, &rec)
	third := w.document(p)
	require.EqualValues(t, 3, third.Generation)
	require.Equal(t, first.User, third.User)
	w.requireServed(p, first, second)

	c, err := w.Store.GetCredential(t.Context(), catalog.TenantCredential, "acme")
	require.NoError(t, err)
	require.EqualValues(t, 3, c.Generation)
	require.Equal(t, []string{"tester", "a test", third.User}, []string{c.IssuedBy, c.Reason, c.Login})
	actions := w.audited("tenant/acme", first.Password, second.Password, third.Password)
	require.Equal(t, 2, count(actions, "secret.issue"), "%v", actions)
	require.GreaterOrEqual(t, count(actions, "secret.rotate"), 2, "%v", actions)

	_, err = w.Rotate(t.Context(), "nobody", worldtest.Tester, "")
	require.ErrorIs(t, err, catalog.ErrNotFound)
	op, err = w.Tenants.Suspend(t.Context(), "acme", worldtest.Tester, "")
	require.NoError(t, err)
	w.Done(op, &struct{}{})
	op, err = w.Rotate(t.Context(), "acme", worldtest.Tester, "")
	require.NoError(t, err)
	w.Done(op, &rec)
	require.Error(t, w.enter(p, w.document(p)), "suspended is suspended")
	op, err = w.Tenants.Resume(t.Context(), "acme", worldtest.Tester, "")
	require.NoError(t, err)
	w.Done(op, &struct{}{})
	w.requireServed(p, first, second, third)
	op, err = w.Tenants.Delete(t.Context(), "acme", worldtest.Tester, "")
	require.NoError(t, err)
	w.Done(op, &struct{}{})
	_, err = w.Rotate(t.Context(), "acme", worldtest.Tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
}

func count(list []string, what string) (n int) {
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}

// Wherever a worker is killed, the next one ends the rotation.
func TestWorkerKilledAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "a")
	points := []string{"rotation/opened", "rotation/written", "rotation/closed"}
	for _, step := range []string{"prepare", "issue", "tell", "close"} {
		points = append(points, KindRotate+"/"+step+"/begin", KindRotate+"/"+step+"/end")
	}
	points = append(points, KindRotate+"/issue/committed")
	revokes := []string{KindRevoke + "/kill/end", KindRevoke + "/kill/committed", KindRevoke + "/issue/end"}
	places := map[shardmap.TenantID]shardmap.Placement{}
	var ids []shardmap.TenantID
	for i := range append(slices.Clone(points), revokes...) {
		id := shardmap.TenantID(fmt.Sprintf("mortal-%02d", i))
		ids = append(ids, id)
		places[id] = w.tenant(id)
	}
	w.Stop()
	before := map[shardmap.TenantID]secret.Login{}
	var ops []*operation.Operation
	for i, id := range ids {
		before[id] = w.document(places[id])
		begin, point := w.Rotate, append(slices.Clone(points), revokes...)[i]
		if i >= len(points) {
			begin = w.Revoke
		}
		op, err := begin(t.Context(), id, worldtest.Tester, "")
		require.NoError(t, err)
		ops = append(ops, op)
		w.KilledAt(point)
	}
	w.Work()
	for i, op := range ops {
		var rec TenantReceipt
		w.Done(op, &rec)
		require.EqualValues(t, 2, rec.Generation)
		w.requireServed(places[ids[i]], before[ids[i]])
	}
}

// Nodes that can't be told don't keep the old logins open; one that answers and is not done does, for a while.
func TestNodesAreWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{TellFor: 10 * time.Millisecond, TroubleFor: time.Hour}, "a")
	p := w.tenant("acme")
	first := w.document(p)
	w.nodes.answer = func(asked int) (publish.Renewed, error) {
		ack := shardmap.RenewalAck{Node: "n2", Done: asked > 2}
		if asked == 1 {
			ack.Trouble = "no way in"
		} // then requests are under way
		return publish.Renewed{Nodes: 2, Acks: []shardmap.RenewalAck{{Node: "n1", Done: true}, ack}}, nil
	}
	op, err := w.Rotate(t.Context(), "acme", worldtest.Tester, "")
	require.NoError(t, err)
	var rec TenantReceipt
	w.Done(op, &rec)
	require.Equal(t, 3, w.nodes.asked)
	require.Equal(t, []int{2, 2}, []int{rec.Nodes, rec.Renewed})
	require.Empty(t, rec.Note)

	w.nodes.answer = func(int) (publish.Renewed, error) { return publish.Renewed{}, publish.ErrUnavailable }
	op, err = w.Rotate(t.Context(), "acme", worldtest.Tester, "")
	require.NoError(t, err)
	w.Done(op, &rec)
	require.Contains(t, rec.Note, "nats is unavailable")
	w.requireServed(p, first)
}

// A worker whose clock was ahead, or was set back since, has nobody wait for that.
func TestNodesAreWaitedForByOneClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{TellFor: 10 * time.Millisecond}, "a")
	w.tenant("acme")
	w.nodes.answer = func(int) (publish.Renewed, error) { return publish.Renewed{Nodes: 1}, nil }
	w.Stop()
	op, err := w.Rotate(t.Context(), "acme", worldtest.Tester, "")
	require.NoError(t, err)
	w.KilledAt(KindRotate + "/tell/end")
	tag, err := w.Store.Pool().Exec(t.Context(), `update operations set data = data || jsonb_build_object('told_at', clock_timestamp() + interval '1 day') where id = $1 and data ? 'told_at'`, op.ID)
	require.NoError(t, err)
	require.EqualValues(t, 1, tag.RowsAffected())
	w.Work()
	w.Done(op, &TenantReceipt{})
}

// What could not be issued leaves the old logins as they were, and no others.
func TestRotationTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "a")
	p := w.tenant("acme")
	first := w.document(p)
	w.Stop()
	op, err := w.Rotate(t.Context(), "acme", worldtest.Tester, "")
	require.NoError(t, err)
	w.KilledAt("rotation/opened")
	_, err = w.Engine.Cancel(t.Context(), op.ID, worldtest.Tester)
	require.NoError(t, err)
	w.Work()
	require.Equal(t, operation.Canceled, w.Ended(op).State)
	require.Equal(t, first, w.document(p))
	w.requireServed(p)
	conn, err := w.Fleet.Admin(t.Context(), p.Shard, maintenance)
	require.NoError(t, err)
	defer closeConn(t.Context(), conn)
	var open int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_authid WHERE rolname = ANY($1::text[]) AND (rolcanlogin OR rolpassword IS NOT NULL)",
		shard.TurnLogins(p.Database, tenantdb.SecondTurn)).Scan(&open))
	require.Zero(t, open)
}

// A secret that was written before its rotation was canceled stands, is on record, and nodes are told.
func TestRotationTakenBackTooLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "a")
	p := w.tenant("acme")
	w.Stop()
	op, err := w.Rotate(t.Context(), "acme", worldtest.Tester, "")
	require.NoError(t, err)
	w.KilledAt("rotation/written")
	_, err = w.Engine.Cancel(t.Context(), op.ID, worldtest.Tester)
	require.NoError(t, err)
	w.Work()
	require.Equal(t, operation.Canceled, w.Ended(op).State)
	require.EqualValues(t, 2, w.document(p).Generation)
	w.requireServed(p)
	require.Equal(t, 1, w.nodes.asked)
	require.Contains(t, w.audited("tenant/acme", w.document(p).Password), "secret.issue")
	c, err := w.Store.GetCredential(t.Context(), catalog.TenantCredential, "acme")
	require.NoError(t, err)
	require.EqualValues(t, 2, c.Generation)
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "a")
	p := w.tenant("acme")
	first := w.document(p)
	conn, err := w.Fleet.Admin(t.Context(), p.Shard, maintenance)
	require.NoError(t, err)
	defer closeConn(t.Context(), conn)
	person, _, err := shard.TempLogin(t.Context(), conn, p.Database, shard.AccessRO, time.Hour)
	require.NoError(t, err)
	require.NoError(t, w.enter(p, person))
	op, err := w.Revoke(t.Context(), "acme", worldtest.Tester, "")
	require.NoError(t, err)
	var rec TenantReceipt
	w.Done(op, &rec)
	require.Equal(t, []string{person.User}, rec.People)
	w.requireServed(p, first)
	require.Error(t, w.enter(p, person))
	actions := w.audited("tenant/acme", first.Password, person.Password, w.document(p).Password)
	require.Contains(t, actions, "secret.kill")
	require.Contains(t, actions, "secret.issue")
}

// A revocation that is taken back after it closed everything leaves nothing of
// before open, and the tenant served.
func TestRevocationTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "a")
	p := w.tenant("acme")
	first := w.document(p)
	for _, at := range []struct {
		point string
		new   bool
	}{{KindRevoke + "/kill/begin", false}, {"rotation/killed", true}} {
		w.Stop()
		op, err := w.Revoke(t.Context(), "acme", worldtest.Tester, "")
		require.NoError(t, err)
		w.KilledAt(at.point)
		_, err = w.Engine.Cancel(t.Context(), op.ID, worldtest.Tester)
		require.NoError(t, err)
		w.Work()
		require.Equal(t, operation.Canceled, w.Ended(op).State)
		require.Equal(t, at.new, w.document(p).Generation == first.Generation+1, at.point)
	}
	w.requireServed(p, first)
	require.Contains(t, w.audited("tenant/acme", w.document(p).Password), "secret.issue")
}

func TestRotateAllGoesOnAfterADeath(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{SettleFor: time.Millisecond}, "c")
	var places []shardmap.Placement
	var before []secret.Login
	for i := range 6 {
		p := w.tenant(shardmap.TenantID(fmt.Sprintf("t%d", i)))
		places, before = append(places, p), append(before, w.document(p))
	}
	w.Stop()
	op, err := w.RotateAll(t.Context(), 2, worldtest.Tester, "")
	require.NoError(t, err)
	_, err = w.RotateAll(t.Context(), 2, worldtest.Tester, "")
	require.ErrorIs(t, err, catalog.ErrBusy)
	w.KilledAt("rotation/written")
	w.KilledAt("rotation/closed")
	w.Work()
	var rec AllReceipt
	w.Done(op, &rec)
	require.Equal(t, AllReceipt{Rotated: 7}, rec, "six tenants and the shard")
	for i, p := range places {
		require.EqualValues(t, 2, w.document(p).Generation)
		w.requireServed(p, before[i])
	}
	admin, _, err := w.Secrets.Get(t.Context(), secret.ShardAdmin("c"))
	require.NoError(t, err)
	require.Equal(t, "freehold_admin_b", admin.User)
}

// What is due is rotated by itself, and nothing else.
func TestKeeperRotatesWhatIsDue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{Every: 30 * 24 * time.Hour}, "a")
	old, young := w.tenant("old"), w.tenant("young")
	_, err := w.Store.Pool().Exec(t.Context(), `update tenants set created_at = created_at - interval '31 days' where id = 'old'`)
	require.NoError(t, err)
	require.NoError(t, w.tend(t.Context()))
	ops, _, err := w.Engine.List(t.Context(), operation.Filter{Kind: KindRotate}, catalog.Page{})
	require.NoError(t, err)
	require.Len(t, ops, 1)
	w.Done(ops[0], &TenantReceipt{})
	require.EqualValues(t, 2, w.document(old).Generation)
	require.EqualValues(t, 1, w.document(young).Generation)
	require.NoError(t, w.tend(t.Context()))
	ops, _, err = w.Engine.List(t.Context(), operation.Filter{Kind: KindRotate}, catalog.Page{})
	require.NoError(t, err)
	require.Len(t, ops, 1)
}

// Four credentials that can't be rotated don't keep the fifth from its turn.
func TestKeeperPassesOverWhatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{Every: 30 * 24 * time.Hour}, "a", "b")
	var fifth shardmap.Placement
	for i := range keeperAtOnce + 1 {
		p := w.tenant(shardmap.TenantID(fmt.Sprintf("t%d", i)))
		if i < keeperAtOnce {
			require.NoError(t, w.Secrets.Delete(t.Context(), secret.DatabaseAuth(p.Database)))
		}
		fifth = p
	}
	_, err := w.Store.Pool().Exec(t.Context(), `update tenants set created_at = created_at - interval '31 days' - case id when 't4' then interval '0' else interval '1 day' end`)
	require.NoError(t, err)
	ended := func(n int) {
		t.Helper()
		require.NoError(t, w.tend(t.Context()))
		ops, _, err := w.Engine.List(t.Context(), operation.Filter{Kind: KindRotate}, catalog.Page{})
		require.NoError(t, err)
		require.Len(t, ops, n)
		for _, op := range ops {
			w.Ended(op)
		}
	}
	ended(keeperAtOnce)
	ended(keeperAtOnce + 1)
	require.EqualValues(t, 2, w.document(fifth).Generation)
	ended(keeperAtOnce + 1)

	// What is stuck, or on a shard that is gone, is no different.
	pool := w.Store.Pool()
	_, err = pool.Exec(t.Context(), `delete from operation_steps; delete from operations; update credentials set issued_at = issued_at - interval '31 days'`)
	require.NoError(t, err)
	due := func() (of []string) {
		list, err := w.Store.DueCredentials(t.Context(), w.opt.Every, 10)
		require.NoError(t, err)
		for _, c := range list {
			of = append(of, c.Subject)
		}
		return of
	}
	require.Contains(t, due(), "t4")
	w.Stop()
	op, err := w.Rotate(t.Context(), "t0", worldtest.Tester, "")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `update operations set created_at = created_at - interval '1 hour', data = data || jsonb_build_object('shard', $2::text) where id = $1`, op.ID, fifth.Shard)
	require.NoError(t, err)
	require.NotContains(t, due(), "t4")
	n, err := w.Store.RotationsUnderWay(t.Context(), KindRotate)
	require.NoError(t, err)
	require.Zero(t, n)
	_, err = pool.Exec(t.Context(), `update operations set data = data - 'shard'`)
	require.NoError(t, err)
	require.Contains(t, due(), "t4")
	_, err = pool.Exec(t.Context(), `update shards set state = 'down' where id = $1`, fifth.Shard)
	require.NoError(t, err)
	require.NotContains(t, due(), "t4")
	_, err = w.Rotate(t.Context(), "t4", worldtest.Tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
}

func TestRotateShard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{SettleFor: time.Millisecond}, "b")
	path := secret.ShardAdmin("b")
	first, _, err := w.Secrets.Get(t.Context(), path)
	require.NoError(t, err)
	var logins []secret.Login
	for _, point := range []string{"rotation/admin-opened", "rotation/admin-written", KindShard + "/close/end"} {
		w.Stop()
		op, err := w.RotateShard(t.Context(), "b", worldtest.Tester, "")
		require.NoError(t, err)
		_, err = w.RotateShard(t.Context(), "b", worldtest.Tester, "")
		require.ErrorIs(t, err, catalog.ErrBusy)
		w.KilledAt(point)
		w.Work()
		var rec ShardReceipt
		w.Done(op, &rec)
		login, _, err := w.Secrets.Get(t.Context(), path)
		require.NoError(t, err)
		require.Equal(t, login.User, rec.Login)
		logins = append(logins, login)
	}
	require.Equal(t, []string{"freehold_admin_b", "freehold_admin_a", "freehold_admin_b"}, []string{logins[0].User, logins[1].User, logins[2].User})
	for _, old := range logins[:2] {
		_, err := w.Fleet.AdminAs(t.Context(), "b", old)
		require.Error(t, err)
	}
	conn, err := w.Fleet.AdminAs(t.Context(), "b", first)
	require.NoError(t, err, "the bootstrap superuser is the deployment's")
	closeConn(t.Context(), conn)
	w.tenant("later")

	// Registered once more as at first, it keeps the login that was rotated; that one closed, it gets the given one.
	server := shardtest.Server(t, "b")
	spec := provision.ShardSpec{Shard: shardtest.Row("b", server), Admin: server.Admin, Console: server.Console}
	for _, want := range []string{"freehold_admin_b", server.Admin.User} {
		_, err = w.Tenants.AddShard(t.Context(), spec, worldtest.Tester)
		require.NoError(t, err)
		login, _, err := w.Secrets.Get(t.Context(), path)
		require.NoError(t, err)
		require.Equal(t, want, login.User)
		conn, err := w.Fleet.AdminAs(t.Context(), "b", first)
		require.NoError(t, err)
		_, err = shard.CloseAdmin(t.Context(), conn, "freehold_admin_b")
		require.NoError(t, err)
		closeConn(t.Context(), conn)
	}
	w.audited("shard/b", logins[0].Password, logins[1].Password, logins[2].Password)

	_, err = w.RotateShard(t.Context(), "z", worldtest.Tester, "")
	require.True(t, errors.Is(err, catalog.ErrNotFound), "%v", err)
}
