package move

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/pgtest"
)

func TestForecastIsOfWhatWasMeasuredLately(t *testing.T) {
	t.Parallel()
	now := time.Now()
	slow := Attempt{At: now.Add(-2 * time.Minute), Phases: []Phase{{"hold", 900}, {"paused", 900}}}
	given := Attempt{At: now.Add(-20 * time.Second), Phases: []Phase{{"hold", 50}, {"paused", 100}, {"fenced", 30}}}
	later := Attempt{At: now.Add(-10 * time.Second), Phases: []Phase{{"hold", 40}, {"paused", 20}, {"barrier", 500}}}
	require.Equal(t, 20*time.Millisecond, others(nil, 10*time.Millisecond, now))
	require.Equal(t, 20*time.Millisecond, others([]Attempt{slow}, 10*time.Millisecond, now), "too long ago")
	require.Equal(t, 180*time.Millisecond, others([]Attempt{slow, given}, 10*time.Millisecond, now))
	require.Equal(t, 90*time.Millisecond, others([]Attempt{slow, given, later}, 10*time.Millisecond, now), "the arrival of changes is measured anew")

	f := forecast{Arrival: 100 * time.Millisecond, Open: 50 * time.Millisecond, Others: 250 * time.Millisecond, Lag: 3_200_000, Rate: 1_100_000}
	require.True(t, f.fits(500*time.Millisecond))
	require.True(t, f.easy(500*time.Millisecond))
	require.False(t, f.fits(499*time.Millisecond), "a fifth is for what can't be foreseen")
	f.Arrival += 30 * time.Millisecond
	require.True(t, f.fits(time.Second/2+50*time.Millisecond))
	require.False(t, f.easy(time.Second/2+10*time.Millisecond))
	require.Contains(t, f.String(), "a pause of 430ms is expected now: changes take 130ms to arrive (3.2 MB behind, the server writes 1.1 MB/s)")
}

// While changes can't arrive in time no attempt is made, and why is in sight;
// clients go on meanwhile.
func TestCutoverWaitsUntilThePauseFits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.budget = 3 * time.Second // all of which the attempt waits for what does not come
	db, login := w.tenant("swamped", "a")
	w.asOwner("a", db, trafficSchema)
	var once sync.Once
	blockers := make(chan *pgx.Conn, 1)
	w.hit = func(name string) error {
		if name == "move/cutover/hold" { // from here on nothing is applied at the target
			once.Do(func() {
				conn := w.conn("b", db)
				script(t, conn, "BEGIN; LOCK TABLE public.book")
				// Clients may all be between two writes: then nothing would be left to apply.
				script(t, w.conn("a", db), "UPDATE public.book SET who = who WHERE id = (SELECT id FROM public.book LIMIT 1)")
				blockers <- conn
			})
		}
		return nil
	}
	tr := w.startTraffic(db, login, 5*time.Millisecond, false, "a", "a")
	op := w.move("swamped", "b")
	pgtest.Eventually(t, "it says what it waits for", func() bool {
		now, err := w.engine.Get(t.Context(), op.ID)
		require.NoError(t, err)
		return strings.Contains(now.Progress.Waiting, "for a moment to cut over: the pause may be 3s at most, and a pause of")
	})
	before := tr.writes.Load()
	pgtest.Eventually(t, "clients go on", func() bool { return tr.writes.Load() > before+20 })
	script(t, <-blockers, "COMMIT")
	op, rec := w.ended(op)
	require.Equal(t, operation.Done, op.State, op.Error)
	last := rec.Attempts[len(rec.Attempts)-1]
	require.Equal(t, "flipped", last.Outcome)
	require.Positive(t, last.ForeseenMS)
	require.Less(t, float64(last.ForeseenMS), 3000.0)
	require.Equal(t, Equal, rec.Verification.Final)
	tr.requireBalanced(w, w.requireServedOnce("swamped", "a", "b"))
}
