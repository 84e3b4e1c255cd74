package balance_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/shardmap"
)

// Whatever order moves end in, every plan is carried out whole, within the
// policy's bounds at every moment, and no shard is ever too full though tenants
// under way take room at both ends.
func TestAPlanIsCarriedOutWithinThePolicy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, p := someFleet(t), balance.DefaultPolicy()
		p.MaxMoves = rapid.IntRange(0, 3).Draw(t, "moves")
		p.MaxMovesPerShard = rapid.IntRange(0, 2).Draw(t, "per shard")
		p.MaxBytesPerHour = float64(rapid.SampledFrom([]int{0, 10, 60}).Draw(t, "bytes"))
		p.Quiet = rapid.SampledFrom([][]balance.Window{nil, {{From: 13 * 60, To: 15 * 60}}}).Draw(t, "quiet")
		for i := range f.Tenants {
			f.Tenants[i].Busy = balance.Hours(rapid.SampledFrom([]uint32{0, 0, 1 << 12, 1<<24 - 1}).Draw(t, "busy"))
		}
		plan, err := balance.Make(f, &p, balance.Ask{Now: now, Partial: true})
		require.NoError(t, err)
		at := now
		w := balance.Work{Left: plan.Moves}
		b := open(f, p)
		for step := 0; len(w.Left)+len(w.Running) > 0; step++ {
			require.Less(t, step, 1000, "it never ends")
			begin, wait, err := balance.Next(f, &p, w, at)
			require.NoError(t, err)
			for _, m := range begin {
				_, quiet := p.QuietUntil(at)
				require.False(t, quiet)
				busy := b.tenants[m.Tenant].Busy
				require.True(t, !busy.At(at) || busy == 1<<24-1)
				w.Left = slices.DeleteFunc(w.Left, func(o balance.Move) bool { return o == m })
				w.Running = append(w.Running, m)
				w.Begun = append(w.Begun, balance.Begun{At: at, Bytes: m.Bytes})
			}
			within(t, b, &p, w, at)
			switch {
			case len(w.Running) > 0 && (wait.Until.IsZero() || rapid.Bool().Draw(t, "ends")):
				i := rapid.IntRange(0, len(w.Running)-1).Draw(t, "which")
				end(f, b, w.Running[i])
				w.Running = slices.Delete(w.Running, i, i+1)
			case len(w.Left) > 0 && len(begin) == 0:
				require.False(t, wait.Until.IsZero(), "nothing runs, and yet it waits for that: %s", wait.Why)
				require.True(t, wait.Until.After(at))
				at = wait.Until
			}
			at = at.Add(time.Minute)
		}
		b.settled(t, plan.Refused)
	})
}

func end(f *balance.Fleet, b *book, m balance.Move) {
	for i := range f.Tenants {
		if f.Tenants[i].ID == m.Tenant {
			f.Tenants[i].Shard = m.To
		}
	}
	b.at[m.Tenant] = m.To
}

// within checks the policy's bounds, and the room of all targets with those under way.
func within(t *rapid.T, b *book, p *balance.Policy, w balance.Work, at time.Time) {
	per := map[shardmap.ShardID]int{}
	load := map[shardmap.ShardID]balance.Vector{}
	add := func(id shardmap.TenantID, s shardmap.ShardID) {
		v := load[s]
		for d, u := range b.tenants[id].Usage {
			v[d] += u
		}
		v[balance.Databases]++
		load[s] = v
	}
	for id, s := range b.at {
		add(id, s)
	}
	for _, m := range w.Running {
		per[m.From]++
		per[m.To]++
		add(m.Tenant, m.To)
	}
	require.True(t, p.MaxMoves == 0 || len(w.Running) <= p.MaxMoves)
	for _, n := range per {
		require.True(t, p.MaxMovesPerShard == 0 || n <= p.MaxMovesPerShard)
	}
	for _, m := range w.Running {
		s := b.shards[m.To]
		for d, v := range load[m.To] {
			require.True(t, s.Capacity[d] == 0 || v+s.Other[d] <= s.Capacity[d]*(1-p.Headroom)*(1+1e-6), "%s on the way to %s", m.Tenant, m.To)
		}
	}
	spent, moves := 0.0, 0
	for _, x := range w.Begun {
		if x.At.Add(time.Hour).After(at) && x.Bytes > 0 {
			spent += x.Bytes
			moves++
		}
	}
	require.True(t, p.MaxBytesPerHour == 0 || moves <= 1 || spent <= p.MaxBytesPerHour)
}

func TestWhatForAMoveWaits(t *testing.T) {
	f := two()
	for i := range 3 {
		f.Tenants = append(f.Tenants, tenant(fmt.Sprintf("t%d", i), "s1", 20, balance.Needs{}))
	}
	left := []balance.Move{}
	for _, tt := range f.Tenants {
		left = append(left, balance.Move{Tenant: tt.ID, From: "s1", To: "s2", Bytes: 20})
	}
	for _, c := range []struct {
		change func(f *balance.Fleet, p *balance.Policy, w *balance.Work)
		begin  int
		until  time.Time
		why    string
	}{
		{func(_ *balance.Fleet, p *balance.Policy, _ *balance.Work) { p.MaxMovesPerShard = 0 }, 3, time.Time{}, ""},
		{func(*balance.Fleet, *balance.Policy, *balance.Work) {}, 1, time.Time{}, "s1 takes part in 1 moves"},
		{func(_ *balance.Fleet, p *balance.Policy, _ *balance.Work) { p.MaxMovesPerShard, p.MaxMoves = 0, 2 }, 2, time.Time{}, "2 moves are running"},
		{func(_ *balance.Fleet, p *balance.Policy, _ *balance.Work) {
			p.MaxMovesPerShard, p.MaxBytesPerHour = 0, 30
		}, 1, now.Add(time.Hour), "20 B were begun within the hour, of at most 30 B"},
		{func(_ *balance.Fleet, p *balance.Policy, w *balance.Work) {
			p.MaxBytesPerHour = 30
			w.Begun = []balance.Begun{{At: now.Add(-40 * time.Minute), Bytes: 15}, {At: now.Add(-61 * time.Minute), Bytes: 90}}
		}, 0, now.Add(20 * time.Minute), "15 B were begun"},
		{func(f *balance.Fleet, p *balance.Policy, _ *balance.Work) {
			p.MaxMovesPerShard, f.Shards[1].Other[balance.Bytes] = 0, 45
		}, 1, time.Time{}, "s2 has no room: bytes would be 85 B of at most 80 B"},
		{func(f *balance.Fleet, p *balance.Policy, _ *balance.Work) {
			p.MaxMovesPerShard, f.Tenants[0].Busy = 0, 1<<12
		}, 0, now.Add(time.Hour), "t0 is busy at this hour"},
		{func(_ *balance.Fleet, p *balance.Policy, _ *balance.Work) {
			p.Quiet = []balance.Window{{From: 11 * 60, To: 14 * 60}}
		}, 0, now.Add(2 * time.Hour), "quiet hours"},
	} {
		f, p, w := &balance.Fleet{Shards: slices.Clone(f.Shards), Tenants: slices.Clone(f.Tenants)}, balance.DefaultPolicy(), balance.Work{Left: left}
		c.change(f, &p, &w)
		begin, wait, err := balance.Next(f, &p, w, now)
		require.NoError(t, err)
		require.Len(t, begin, c.begin, c.why)
		require.Equal(t, c.until, wait.Until, c.why)
		require.Contains(t, wait.Why, c.why)
	}
	w := balance.Work{Left: []balance.Move{{Tenant: "t0", From: "s2", To: "s1"}}}
	p := balance.DefaultPolicy()
	_, _, err := balance.Next(f, &p, w, now)
	require.ErrorIs(t, err, balance.ErrInvalid, "a plan for another state of the fleet")
}
