package move

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/diff"
	"github.com/freehold-db/freehold/controlplane/move/movetest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pgtest"
)

// heldBeforeCutover starts a move that follows the source, and does not get on
// from there until it is let go.
func (w *world) heldBeforeCutover(req Request) (_ *operation.Operation, letGo func()) {
	w.t.Helper()
	old, gate := w.hit, make(chan struct{})
	letGo = sync.OnceFunc(func() { close(gate) })
	w.t.Cleanup(letGo)
	var held atomic.Bool
	w.hit = func(name string) error {
		if name == "move/cutover/hold" {
			held.Store(true)
			<-gate
		}
		return old(name)
	}
	req.MaxPause = w.budget
	op, err := w.Move(w.t.Context(), req, tester, "")
	require.NoError(w.t, err)
	pgtest.Eventually(w.t, "the move follows", func() bool {
		now, err := w.engine.Get(w.t.Context(), op.ID)
		require.NoError(w.t, err)
		require.False(w.t, now.State.Final(), now.Error)
		return held.Load() // its rehearsal, which sets the target's sequences, is behind it
	})
	return op, letGo
}

// verified compares and requires that the comparison came to its end.
func (w *world) verified(req VerifyRequest) Comparison {
	w.t.Helper()
	op, err := w.Verify(w.t.Context(), req, tester, "")
	require.NoError(w.t, err)
	op, _ = w.ended(op)
	require.Equal(w.t, operation.Done, op.State, op.Error)
	var rep Comparison
	require.NoError(w.t, json.Unmarshal(op.Receipt, &rep))
	return rep
}

const verifySchema = "CREATE TABLE d (id int PRIMARY KEY, v text); CREATE INDEX d_v ON d (v); INSERT INTO d SELECT i, 'v' || i FROM generate_series(1, 5000) i; CREATE SEQUENCE s; CREATE TABLE bag (a int); INSERT INTO bag SELECT i % 3 FROM generate_series(1, 100) i;"

// Before its cutover a move is compared at will: equal while the tenant goes
// on, and whatever was planted is found under its name. Then, while it soaks,
// the other way round.
func TestVerifyBeforeTheCutoverAndWhileItSoaks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, login := w.tenant("proven", "a")
	w.asOwner("a", db, trafficSchema+verifySchema)
	tr := w.startTraffic(db, login, 10*time.Millisecond, false, "a")
	_, err := w.Verify(t.Context(), VerifyRequest{Of: "01920000-0000-7000-8000-000000000001"}, tester, "")
	require.ErrorIs(t, err, catalog.ErrNotFound)
	op, letGo := w.heldBeforeCutover(Request{Tenant: "proven", To: "b", Soak: time.Hour})

	rep := w.verified(VerifyRequest{Of: op.ID})
	require.Equal(t, Equal, rep.Outcome, "%+v", rep)
	require.EqualValues(t, "a", rep.Serving)
	require.Greater(t, rep.Rows, int64(5100))

	target := w.conn("b", db)
	script(t, target, "SET session_replication_role = replica; SET search_path = public; UPDATE d SET v = 'else' WHERE id = 77; DELETE FROM d WHERE id = 4000; INSERT INTO d VALUES (9999, 'x'); DELETE FROM bag WHERE ctid = '(0,1)';"+
		"DROP INDEX d_v; GRANT SELECT ON d TO PUBLIC; SELECT setval('s', 1000)")
	rep = w.verified(VerifyRequest{Of: op.ID})
	require.Equal(t, Mismatch, rep.Outcome)
	byName := map[string]diff.Table{}
	for _, d := range rep.Differ {
		byName[d.Name] = d
	}
	require.Len(t, byName, 2, "%+v", rep.Differ)
	require.ElementsMatch(t, []diff.RowDifference{{Kind: diff.Changed, Key: "id=77", Columns: []string{"v"}}, {Kind: diff.Missing, Key: "id=4000"}, {Kind: diff.Extra, Key: "id=9999"}}, byName[`"public"."d"`].Rows)
	require.Equal(t, int64(1), byName[`"public"."bag"`].Missing)
	var objects []string
	for _, o := range rep.Objects {
		objects = append(objects, o.String())
	}
	require.Equal(t, "grant SELECT on table public.d to PUBLIC is at the following side only; index public.d_v is not at the following side; sequence position public.s is 1 at the serving side and 1001 at the following",
		strings.Join(objects, "; "))
	require.Equal(t, 3, rep.DifferentObjects)

	script(t, target, "SET session_replication_role = replica; SET search_path = public; UPDATE d SET v = 'v77' WHERE id = 77; INSERT INTO d VALUES (4000, 'v4000'); DELETE FROM d WHERE id = 9999; INSERT INTO bag VALUES (1);"+
		"CREATE INDEX d_v ON d (v); REVOKE SELECT ON d FROM PUBLIC; SELECT setval('s', 1, false)")
	rep = w.verified(VerifyRequest{Of: op.ID, Sample: 50})
	require.Equal(t, Equal, rep.Outcome, "%+v", rep)

	letGo()
	op, _ = w.ended(op)
	require.Equal(t, operation.Done, op.State, op.Error)
	rep = w.verified(VerifyRequest{Of: op.ID})
	require.Equal(t, Equal, rep.Outcome, "%+v", rep)
	require.EqualValues(t, "b", rep.Serving, "it is served there, and followed from here")
	script(t, w.conn("a", db), "SET session_replication_role = replica; DELETE FROM public.d WHERE id = 1")
	rep = w.verified(VerifyRequest{Of: op.ID, OnlyPKs: true})
	require.Equal(t, Mismatch, rep.Outcome)
	require.Equal(t, []diff.RowDifference{{Kind: diff.Missing, Key: "id=1"}}, rep.Differ[0].Rows)
	tr.requireBalanced(w, "b")

	// Killed in the middle, it is taken up by the next worker from where it was.
	rows := w.verified(VerifyRequest{Of: op.ID}).Rows
	w.stop()
	cut, err := w.Verify(t.Context(), VerifyRequest{Of: op.ID, MaxRate: 20_000}, tester, "")
	require.NoError(t, err)
	w.killedAt("move/verify/saved")
	cut, err = w.engine.Get(t.Context(), cut.ID)
	require.NoError(t, err)
	var at verifyDoc
	require.NoError(t, json.Unmarshal(cut.Data, &at))
	require.Positive(t, at.At.Rows)
	require.Less(t, at.At.Rows, rows)
	w.replica()
	_, _ = w.ended(cut)
	cut, err = w.engine.Get(t.Context(), cut.ID)
	require.NoError(t, err)
	require.Equal(t, operation.Done, cut.State, cut.Error)
	require.NoError(t, json.Unmarshal(cut.Receipt, &rep))
	require.Equal(t, rows, rep.Rows, "nothing is left out, and nothing counted twice")
	require.Equal(t, Mismatch, rep.Outcome)
}

// A cutover in the middle of a comparison neither shows in it, though clients
// write to the target while the source is still read, nor breaks the link back,
// to which its barriers are sent.
func TestVerifyAcrossTheCutover(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("crossed", "a")
	w.asOwner("a", db, verifySchema)
	begun, written, compared := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var ranges atomic.Int64
	w.hit = func(name string) error {
		switch name {
		case "move/verify/range":
			if ranges.Add(1) == 1 { // of "bag"; the next is of "d"
				close(begun)
				<-written
			}
		case "move/cutover/routed":
			<-compared
		}
		return nil
	}
	op, letGo := w.heldBeforeCutover(Request{Tenant: "crossed", To: "b", Soak: time.Hour})
	cmp, err := w.Verify(t.Context(), VerifyRequest{Of: op.ID}, tester, "")
	require.NoError(t, err)
	<-begun
	letGo()
	home := w.conn("b", "postgres")
	pgtest.Eventually(t, "the tenant is at the target", func() bool {
		fenced, err := shard.Fenced(t.Context(), home, db)
		return err == nil && !fenced
	})
	w.asOwner("b", db, "UPDATE d SET v = 'written at the target'")
	close(written)
	pgtest.Eventually(t, "the comparison waits for the move", func() bool {
		now, err := w.engine.Get(t.Context(), cmp.ID)
		require.NoError(t, err)
		require.False(t, now.State.Final(), now.Error)
		return strings.Contains(now.Progress.Waiting, "for the move")
	})
	close(compared)
	op, rec := w.ended(op)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.NotNil(t, rec.SoakUntil, "%+v", rec)
	w.requireFollowing(db, "b", "a")
	cmp, _ = w.ended(cmp)
	require.Equal(t, operation.Done, cmp.State, cmp.Error)
	var rep Comparison
	require.NoError(t, json.Unmarshal(cmp.Receipt, &rep))
	require.Equal(t, Equal, rep.Outcome, "%+v", rep)
}

// A comparison goes on where it was: after an error, and after its worker was
// killed; there is one of a move at a time, and it ends with the move.
func TestVerifyGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("long", "a")
	w.asOwner("a", db, movetest.Everything)
	w.asOwner("a", db, verifySchema)
	var ranges, failures atomic.Int64
	w.hit = func(name string) error {
		if name == "move/verify/range" && ranges.Add(1)%9 == 0 && failures.Add(1) < 4 {
			return errors.New("a mishap")
		}
		return nil
	}
	op, letGo := w.heldBeforeCutover(Request{Tenant: "long", To: "b"})
	rep := w.verified(VerifyRequest{Of: op.ID})
	require.Equal(t, Equal, rep.Outcome, "%+v", rep)
	require.GreaterOrEqual(t, failures.Load(), int64(2), "it was never interrupted")
	rows := rep.Rows
	require.Equal(t, rows, w.verified(VerifyRequest{Of: op.ID}).Rows, "nothing is counted twice")

	_, err := w.Verify(t.Context(), VerifyRequest{Of: op.ID, MaxRate: 1000}, tester, "slow")
	require.NoError(t, err)
	_, err = w.Verify(t.Context(), VerifyRequest{Of: op.ID}, tester, "")
	require.ErrorIs(t, err, catalog.ErrBusy)
	slow, err := w.Verify(t.Context(), VerifyRequest{Of: op.ID, MaxRate: 1000}, tester, "slow")
	require.NoError(t, err)
	_, err = w.engine.Cancel(t.Context(), op.ID, tester)
	require.NoError(t, err)
	letGo()
	op, _ = w.ended(op)
	require.Equal(t, operation.Canceled, op.State)
	slow, _ = w.ended(slow)
	require.Equal(t, operation.Failed, slow.State)
	require.Contains(t, slow.Error, "taken back")
	_, err = w.Verify(t.Context(), VerifyRequest{Of: slow.ID}, tester, "")
	require.ErrorIs(t, err, catalog.ErrConflict)
	w.requireServedOnce("long", "a", "b")
}
