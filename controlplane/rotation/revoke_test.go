package rotation

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/publish"
	"github.com/freehold-db/freehold/controlplane/worldtest"
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
	w := newWorld(t, Options{SettleFor: time.Millisecond}, "c")
	path := secret.ShardAdmin("c")
	get := func() secret.Login {
		login, _, err := w.Secrets.Get(t.Context(), path)
		require.NoError(t, err)
		return login
	}
	op, err := w.RotateShard(t.Context(), "c", worldtest.Tester, "") // away from the deployment's own
	require.NoError(t, err)
	w.Done(op, &ShardReceipt{})
	for _, point := range []string{"", "rotation/admin-opened", KindShard + "/links/end"} {
		leaked := []secret.Login{get()}
		session, err := w.Fleet.AdminAs(t.Context(), "c", leaked[0])
		require.NoError(t, err)
		var rotating *operation.Operation
		if point != "" {
			w.Stop()
			rotating, err = w.RotateShard(t.Context(), "c", worldtest.Tester, "")
			require.NoError(t, err)
			w.KilledAt(point)
			leaked = append(leaked, get())
		}
		op, err := w.RevokeShard(t.Context(), "c", worldtest.Tester, "")
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
			_, err := w.Fleet.AdminAs(t.Context(), "c", old)
			require.Error(t, err, point)
		}
		require.NotContains(t, leaked, get())
		require.Contains(t, w.audited("shard/c", leaked[0].Password, get().Password), "secret.kill")
	}
	w.tenant("later")
}
