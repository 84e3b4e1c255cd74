package rotation

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/publish"
	"github.com/freehold-db/freehold/controlplane/worldtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// What leaked is closed in whichever phase a rotation is, whose worker died there.
func TestRevokeInEveryPhaseOfARotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "a")
	p := w.tenant("acme")
	for i, point := range []string{"rotation/opened", "rotation/written", KindRotate + "/tell/end", "rotation/closed"} {
		leaked := []secret.Login{w.document(p)}
		w.Stop()
		rotating, err := w.Rotate(t.Context(), "acme", worldtest.Tester, "")
		require.NoError(t, err)
		w.KilledAt(point)
		leaked = append(leaked, w.document(p)) // what the rotation issued, if it did
		op, err := w.Revoke(t.Context(), "acme", worldtest.Tester, "")
		require.NoError(t, err, point)
		w.Work()
		var rec TenantReceipt
		w.Done(op, &rec)
		ended := w.Ended(rotating)
		require.Equal(t, i < 2, ended.State == operation.Canceled, point) // past its point of no return it went forward, by the revocation
		require.Contains(t, ended.Error, "a revocation by")
		require.Greater(t, rec.Generation, leaked[1].Generation, point)
		w.requireServed(p, leaked...)
	}
}

// It does not wait for a node that can't go over, as the rotation does; nor for
// one that the revocation before waits for.
func TestRevokeWaitsForNoNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{TellFor: time.Hour, TroubleFor: time.Hour}, "a")
	p := w.tenant("acme")
	first := w.document(p)
	w.nodes.answer = func(int) (publish.Renewed, error) {
		return publish.Renewed{Nodes: 1, Acks: []shardmap.RenewalAck{{Node: "n2", Trouble: "no way in"}}}, nil
	}
	at := func(op *operation.Operation, step string) {
		t.Helper()
		require.Eventually(t, func() bool {
			now, err := w.Engine.Get(t.Context(), op.ID)
			require.NoError(t, err)
			return now.Step == step
		}, time.Minute, 5*time.Millisecond)
	}
	rotating, err := w.Rotate(t.Context(), "acme", worldtest.Tester, "")
	require.NoError(t, err)
	at(rotating, "tell")
	require.NoError(t, w.enter(p, first), "the control: it serves while the rotation waits")
	one, err := w.Revoke(t.Context(), "acme", worldtest.Tester, "")
	require.NoError(t, err)
	at(one, "tell")
	second := w.document(p)
	w.requireServed(p, first)
	another, err := w.Revoke(t.Context(), "acme", worldtest.Tester, "")
	require.NoError(t, err)
	at(another, "tell")
	w.requireServed(p, first, second)
	for _, before := range []*operation.Operation{rotating, one} {
		ended := w.Ended(before)
		require.Equal(t, operation.Done, ended.State)
		require.Contains(t, ended.Error, "a revocation by")
	}
	_, err = w.Rotate(t.Context(), "acme", worldtest.Tester, "")
	require.ErrorIs(t, err, catalog.ErrBusy, "nothing but a revocation takes another's place")
}

// All turns of a shard's admin login but a new one are closed with their
// sessions, also in the middle of a rotation, and operations go on.
func TestRevokeShard(t *testing.T) {
	t.Parallel()
	// No other test changes admin logins of this server.
	w := newWorld(t, Options{SettleFor: time.Millisecond}, "d", "b", "f")
	path := secret.ShardAdmin("d")
	get := func() secret.Login {
		login, _, err := w.Secrets.Get(t.Context(), path)
		require.NoError(t, err)
		return login
	}
	op, err := w.RevokeShard(t.Context(), "d", worldtest.Tester, "") // the deployment's own, which is the deployment's to close
	require.NoError(t, err)
	var own ShardReceipt
	w.Done(op, &own)
	require.Empty(t, own.Closed)
	require.Contains(t, own.Note, "is still let in")
	for _, point := range []string{"", "rotation/admin-opened", KindShard + "/links/end"} {
		leaked := []secret.Login{get()}
		session, err := w.Fleet.AdminAs(t.Context(), "d", leaked[0])
		require.NoError(t, err)
		var rotating *operation.Operation
		if point != "" {
			w.Stop()
			rotating, err = w.RotateShard(t.Context(), "d", worldtest.Tester, "")
			require.NoError(t, err)
			w.KilledAt(point)
			leaked = append(leaked, get())
		}
		op, err := w.RevokeShard(t.Context(), "d", worldtest.Tester, "")
		require.NoError(t, err, point)
		if point != "" {
			w.Work()
		}
		var rec ShardReceipt
		w.Done(op, &rec)
		if rotating != nil {
			require.Contains(t, w.Ended(rotating).Error, "a revocation by", point)
		}
		require.Positive(t, rec.Ended, point)
		require.Error(t, session.Ping(t.Context()), point)
		closeConn(t.Context(), session)
		for _, old := range leaked {
			_, err := w.Fleet.AdminAs(t.Context(), "d", old)
			require.Error(t, err, point)
		}
		require.NotContains(t, leaked, get())
		require.Contains(t, w.audited("shard/d", leaked[0].Password, get().Password), "secret.kill")
	}
	w.tenant("later")

	// It leaks again while the revocation before hands the new one to subscriptions, which
	// a shard that does not answer keeps from ending; those at the others have it all the same.
	reach := func(port uint16) {
		_, err := w.Store.Pool().Exec(t.Context(), `update shards set postgres_port = $1 where id = 'b'`, port)
		require.NoError(t, err)
	}
	linking := func(op *operation.Operation, err error) *operation.Operation {
		t.Helper()
		require.NoError(t, err)
		pgtest.Eventually(t, "it waits for the shard that is away", func() bool {
			now, err := w.Engine.Get(t.Context(), op.ID)
			require.NoError(t, err)
			return now.Step == "links" && now.Attempt > 1
		})
		return op
	}
	info, err := w.Fleet.AdminConninfo(t.Context(), "f", "d", "postgres")
	require.NoError(t, err)
	lit, err := pg.Literal(info)
	require.NoError(t, err)
	conn := w.Conn("f", "postgres")
	w.Script(conn, "CREATE SUBSCRIPTION linked CONNECTION "+lit+" PUBLICATION p WITH (connect = false, slot_name = NONE, enabled = false, create_slot = false)")
	t.Cleanup(func() { // the test's own context has ended
		_, err := conn.Exec(context.Background(), "DROP SUBSCRIPTION linked")
		require.NoError(t, err)
	})
	b, err := w.Store.GetShard(t.Context(), "b")
	require.NoError(t, err)
	reach(1)
	one := linking(w.RevokeShard(t.Context(), "d", worldtest.Tester, ""))
	leaked := get()
	another := linking(w.RevokeShard(t.Context(), "d", worldtest.Tester, ""))
	require.Contains(t, w.Ended(one).Error, "a revocation by")
	_, err = w.Fleet.AdminAs(t.Context(), "d", leaked)
	require.Error(t, err)
	var links string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT subconninfo FROM pg_subscription WHERE subname = 'linked'").Scan(&links))
	require.Contains(t, links, "user='"+get().User+"' ")
	reach(b.PostgresPort)
	w.Done(another, &ShardReceipt{})

	// A secret that somebody wrote at the very moment, as a try of before whose answer was lost, is what the server has.
	w.Stop()
	w.held = &overtaken{Store: w.Secrets}
	op, err = w.RotateShard(t.Context(), "d", worldtest.Tester, "")
	require.NoError(t, err)
	w.Work()
	w.Done(op, &ShardReceipt{})
	last, err := w.Fleet.AdminAs(t.Context(), "d", get())
	require.NoError(t, err)
	closeConn(t.Context(), last)
}

// overtaken is a secret store in which what is written first was written with another password a moment before.
type overtaken struct {
	secret.Store
	once sync.Once
}

func (o *overtaken) Put(ctx context.Context, path string, l secret.Login, version int64) (int64, error) {
	o.once.Do(func() {
		before := l
		before.Password = pg.NewPassword()
		_, _ = o.Store.Put(ctx, path, before, version) // without it the test sees nothing, and fails nowhere
	})
	return o.Store.Put(ctx, path, l, version)
}
