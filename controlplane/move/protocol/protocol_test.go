package protocol_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// within are the bounds in which every run is walked. What they leave out is
// wandered through (TestWander).
var within = []budget{
	{writes: 1, faults: 1},
	{writes: 1, doubles: 1},
	{writes: 2, faults: 1, crashes: 1, deaf: true},
	{writes: 1, faults: 2, deaf: true},
	{writes: 1, crashes: 2, deaf: true},
	{writes: 1, faults: 1, cancels: 1, deaf: true},
	{writes: 1, lapses: 1, wakes: 1, deaf: true},
	{writes: 1, crashes: 1, moves: 1, deaf: true},
}

// withinSoak takes minutes and gigabytes: some millions of states each.
var withinSoak = []budget{
	{writes: 2, faults: 1, crashes: 1},
	{writes: 2, faults: 2, doubles: 1},
	{writes: 2, lapses: 1, wakes: 1, deaf: true},
	{writes: 1, lapses: 1, wakes: 2, deaf: true},
	{writes: 1, lapses: 1, wakes: 1, crashes: 1, deaf: true},
	{writes: 1, lapses: 1, wakes: 1, faults: 1, deaf: true},
	{writes: 1, lapses: 1, wakes: 1, cancels: 1, deaf: true},
	{writes: 1, lapses: 1, wakes: 1, moves: 1, deaf: true},
}

// most bounds memory: about half a kilobyte a state.
const most = 4_000_000

func soak() bool { return os.Getenv("FREEHOLD_SOAK") != "" }

// In no state that can be reached do two places accept writes or is an
// acknowledged write lost, and in the end the tenant is served where the
// catalog says, with nothing left paused or fenced.
func TestEveryRun(t *testing.T) {
	bounds := within
	if soak() {
		bounds = append(bounds, withinSoak...)
	}
	for _, b := range bounds {
		t.Run(b.String(), func(t *testing.T) {
			start := time.Now()
			tally, found := explore(b, mutant{}, most)
			require.Nil(t, found, "%v", found)
			require.True(t, tally.complete, "more than %d states", most)
			require.NotZero(t, tally.ends)
			t.Logf("%d states, %d transitions, %v", tally.states, tally.transitions, time.Since(start).Round(time.Millisecond))
		})
	}
}

// Runs by chance, far beyond the bounds of TestEveryRun. FREEHOLD_SEED names
// the first seed, to make a run again.
func TestWander(t *testing.T) {
	b := budget{faults: 5, crashes: 2, lapses: 3, wakes: 8, doubles: 2, cancels: 1, writes: 4, moves: 3}
	first, runs := uint64(1), uint64(1000)
	if soak() {
		first, runs = uint64(time.Now().UnixNano()), 500_000 //nolint:gosec // not negative
	}
	if env := os.Getenv("FREEHOLD_SEED"); env != "" {
		var err error
		first, err = strconv.ParseUint(env, 10, 64)
		require.NoError(t, err)
	}
	x := &explorer{automaton: newAutomaton(mutant{})}
	steps := 0
	for seed := first; seed < first+runs; seed++ {
		n, found := wander(x, b, seed)
		require.Nil(t, found, "FREEHOLD_SEED=%d\n%v", seed, found)
		steps += n
	}
	t.Logf("%d runs from seed %d, %d steps", runs, first, steps)
}

// The control: whatever is wrong on purpose, the explorer finds it.
func TestMutantsAreCaught(t *testing.T) {
	for _, mut := range mutants {
		t.Run(mut.name, func(t *testing.T) {
			tally, found := explore(mut.within, mut, most/4)
			require.NotNil(t, found, "not caught: %+v", tally)
			t.Logf("after %d states, %d steps: %v", tally.states, len(found.story), found.err)
			// What is right is not called wrong within the same bounds.
			_, found = explore(mut.within, mutant{noKeeper: mut.noKeeper && mut.wrap != nil}, tally.states)
			require.Nil(t, found, "%v", found)
		})
	}
}

// The same bounds give the same exploration.
func TestExplorationIsDeterministic(t *testing.T) {
	b := budget{writes: 1, faults: 1, crashes: 1, deaf: true}
	one, _ := explore(b, mutant{}, most)
	two, _ := explore(b, mutant{}, most)
	require.Equal(t, one, two)
}

func (b budget) String() string {
	s := fmt.Sprintf("%d faults, %d crashes, %d lapses with %d wakes, %d doubles, %d cancels, %d writes, %d moves back",
		b.faults, b.crashes, b.lapses, b.wakes, b.doubles, b.cancels, b.writes, b.moves)
	if b.deaf {
		s += ", no messages"
	}
	return s
}
