package rebalance

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/shardmap"
)

// watched is auto mode over a fleet made up, under simulated time.
type watched struct {
	t      *testing.T
	now    time.Time
	fleet  balance.Fleet
	policy balance.Policy
	memory memory
	last   *ended
	runs   int
}

func newWatched(t *testing.T, shards int, loads ...[]float64) *watched {
	w := &watched{t: t, now: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC), policy: balance.DefaultPolicy()}
	for i := range shards {
		w.addShard(i + 1)
	}
	for i, of := range loads {
		for _, load := range of {
			w.fleet.Tenants = append(w.fleet.Tenants, balance.Tenant{ID: shardmap.TenantID(fmt.Sprintf("t%d", len(w.fleet.Tenants)+1)),
				Shard: w.fleet.Shards[i].ID, Usage: balance.Vector{balance.Load: load, balance.Bytes: 1e9}})
		}
	}
	return w
}

func (w *watched) addShard(n int) {
	w.fleet.Shards = append(w.fleet.Shards, balance.Shard{ID: shardmap.ShardID(fmt.Sprintf("s%d", n)), State: balance.Active,
		Capacity: balance.Vector{balance.Load: 8, balance.Bytes: 1e12}})
}

func (w *watched) tenant(id shardmap.TenantID) *balance.Tenant {
	for i := range w.fleet.Tenants {
		if w.fleet.Tenants[i].ID == id {
			return &w.fleet.Tenants[i]
		}
	}
	w.t.Fatalf("no tenant %s", id)
	return nil
}

// look has auto mode look; a run that it begins is carried out at once.
func (w *watched) look() decision {
	w.t.Helper()
	plan, err := balance.Make(&w.fleet, &w.policy, balance.Ask{Now: w.now, Partial: true})
	require.NoError(w.t, err)
	d := w.memory.decide(sight{now: w.now, fleet: &w.fleet, policy: &w.policy, plan: plan, last: w.last})
	require.NotEmpty(w.t, d.says)
	if d.begin {
		require.NotEmpty(w.t, d.kind)
		w.runs++
		after, err := plan.Carry(&w.fleet, w.now)
		require.NoError(w.t, err)
		w.fleet.Tenants = after.Tenants
		w.last = &ended{id: fmt.Sprint(w.runs), at: w.now}
	}
	return d
}

// after has time pass, and looks.
func (w *watched) after(d time.Duration) decision {
	w.t.Helper()
	w.now = w.now.Add(d)
	return w.look()
}

func even(n int, load float64) []float64 {
	loads := make([]float64, n)
	for i := range loads {
		loads[i] = load
	}
	return loads
}

func TestThresholdHasToBeCrossedForAWhile(t *testing.T) {
	t.Parallel()
	w := newWatched(t, 2, even(40, 0.05), even(40, 0.05))
	require.Equal(t, decision{says: "nothing to do"}, w.look())

	// Within the margin: not for ever so long.
	w.tenant("t1").Usage[balance.Load] = 0.05 + 0.25 // s1 carries 1.06 × its share
	for range 10 {
		require.False(t, w.after(time.Hour).begin)
	}
	// Beyond it: after a while, and a dip in between begins that anew.
	w.tenant("t1").Usage[balance.Load] = 0.05 + 0.6
	d := w.after(time.Minute)
	require.Equal(t, "threshold", d.kind)
	require.Contains(t, d.says, "shard s1 carries too much since 2026-03-02T22:01:00Z, and is relieved if it still does at 2026-03-02T22:06:00Z")
	require.False(t, w.after(4*time.Minute).begin)
	w.tenant("t1").Usage[balance.Load] = 0.05
	require.Empty(t, w.after(30*time.Second).kind)
	w.tenant("t1").Usage[balance.Load] = 0.05 + 0.6
	require.False(t, w.after(30*time.Second).begin)
	require.False(t, w.after(4*time.Minute).begin)
	d = w.after(time.Minute)
	require.True(t, d.begin)
	require.False(t, d.must)
	require.Equal(t, decision{says: "nothing to do"}, w.after(time.Minute))
}

func TestHotTenantsAndNewShardsDontWait(t *testing.T) {
	t.Parallel()
	w := newWatched(t, 2, even(40, 0.05), even(40, 0.05))
	require.False(t, w.look().begin)
	w.tenant("t1").Usage[balance.Load] = 2 // of 3.9 that each should carry
	d := w.after(time.Minute)
	require.True(t, d.begin)
	require.Equal(t, "hot-tenant", d.kind)
	require.Contains(t, d.says, "tenant t1 has become hot")

	w.now = w.now.Add(time.Hour)
	require.False(t, w.look().begin)
	w.addShard(3)
	d = w.after(time.Minute)
	require.True(t, d.begin)
	require.Equal(t, "shard-added", d.kind)
	require.Contains(t, d.says, "shard s3 was added")
	require.Empty(t, w.after(time.Hour).kind)

	// One that nobody needs is no reason, now or later.
	small := newWatched(t, 2, even(1, 0.1), even(1, 0.1))
	small.look()
	small.addShard(3)
	require.False(t, small.after(time.Minute).begin)
	require.Empty(t, small.memory.Fresh)
}

func TestWhoMayNotStayGoesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWatched(t, 3, even(40, 0.05), even(40, 0.05), even(40, 0.05))
	w.look()
	w.fleet.Shards[2].State = balance.Draining
	d := w.after(time.Second)
	require.True(t, d.begin && d.must)
	require.Equal(t, "drain", d.kind)
	require.Equal(t, "shard s3 is being drained, and no run is under way", d.says)
	w.fleet.Shards[0].Region = "eu"
	w.tenant("t41").Needs = &balance.Needs{Region: "eu"}
	d = w.after(time.Second)
	require.True(t, d.begin && d.must)
	require.Equal(t, "needs", d.kind)
	require.Contains(t, d.says, "tenant t41 may not stay on s2")
	w.tenant("t42").Needs = &balance.Needs{Region: "mars"}
	d = w.after(time.Second)
	require.False(t, d.begin)
	require.Contains(t, d.says, "nothing can be done about t42: region")
}

func TestQuietHoursAndRestsAreKept(t *testing.T) {
	t.Parallel()
	quiet := newWatched(t, 2, even(80, 0.05), nil)
	quiet.policy.Quiet = []balance.Window{{From: 8 * 60, To: 18 * 60}}
	quiet.look()
	d := quiet.after(10 * time.Minute)
	require.False(t, d.begin)
	require.Contains(t, d.says, "a run begins after quiet hours, at 2026-03-02T18:00:00Z")
	require.False(t, quiet.after(5*time.Hour+49*time.Minute).begin)
	require.True(t, quiet.after(time.Minute).begin)

	begins := func(last ended, failed int, must bool) time.Duration {
		w := newWatched(t, 2, even(80, 0.05), nil)
		if must {
			w.fleet.Shards[0].State = balance.Draining
		}
		last.at = w.now
		w.last, w.memory.Failed, w.memory.Run = &last, failed, last.id
		w.look()
		for passed := time.Duration(0); passed < 8*time.Hour; passed += time.Minute {
			if w.runs > 0 {
				return passed
			}
			w.after(time.Minute)
		}
		return -1
	}
	require.Equal(t, 10*time.Minute, begins(ended{id: "x"}, 0, false))
	require.Equal(t, time.Duration(0), begins(ended{id: "x"}, 0, true))
	require.Equal(t, 10*time.Minute, begins(ended{id: "x", failed: true}, 1, false))
	require.Equal(t, 40*time.Minute, begins(ended{id: "x", failed: true}, 3, false))
	require.Equal(t, longestRest, begins(ended{id: "x", failed: true}, 99, false))
	require.Equal(t, time.Minute, begins(ended{id: "x", failed: true}, 1, true))
	require.Equal(t, 8*time.Minute, begins(ended{id: "x", failed: true}, 4, true))
	require.Equal(t, time.Hour, begins(ended{id: "x", canceled: true}, 0, true))

	m := memory{}
	for range 3 { // a run counts once
		m.noteRun(&ended{id: "a", failed: true})
	}
	m.noteRun(&ended{id: "b", failed: true})
	require.Equal(t, 2, m.Failed)
	m.noteRun(&ended{id: "c"})
	require.Zero(t, m.Failed)
}

// Two days of loads that come and go: what one run has put right, no other undoes.
func TestDaysOfNoiseAreNoReasonToMove(t *testing.T) {
	t.Parallel()
	w := newWatched(t, 4, even(50, 0.04), even(50, 0.04), even(50, 0.04), even(50, 0.04))
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same noise every time
	for minute := 0; minute < 2*24*60; minute += 5 {
		for i := range w.fleet.Tenants {
			w.fleet.Tenants[i].Usage[balance.Load] = 0.04 * (0.7 + 0.6*rng.Float64())
		}
		w.after(5 * time.Minute)
	}
	require.Zero(t, w.runs)
	// A quarter of a shard's tenants do three times as much from now on.
	for minute := 0; minute < 2*24*60; minute += 5 {
		for i := range w.fleet.Tenants {
			grown := 1.0
			if i < 12 {
				grown = 3
			}
			w.fleet.Tenants[i].Usage[balance.Load] = 0.04 * grown * (0.7 + 0.6*rng.Float64())
		}
		w.after(5 * time.Minute)
	}
	require.Positive(t, w.runs)
	require.LessOrEqual(t, w.runs, 4)
}
