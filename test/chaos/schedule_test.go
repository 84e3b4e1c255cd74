package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/test/chaos/network"
)

// verb is what a fault does.
type verb string

const (
	kills    verb = "kill"              // SIGKILL, and started again
	freezes  verb = "freeze"            // SIGSTOP, SIGCONT
	restarts verb = "immediate restart" // as `pg_ctl -m immediate`, and crash recovery
	empties  verb = "empty"             // killed, its store wiped, and started again
	cuts     verb = "cut"               // connections reset, new ones thrown out
	silences verb = "silence"           // nothing passes, nothing is said: a partition
	slows    verb = "slow"              // late, and little at a time
	fills    verb = "disk full"
	drops    verb = "drop slot" // of a move under way
	drains   verb = "drain"     // of a shard, taken back before it may be done
	evens    verb = "rebalance" // a plan, carried out by a run
	rotates  verb = "rotate"    // a shard's admin login
)

// Kinds of parts.
const (
	controlPlanes = "controlplane"
	nodes         = "dataplane"
	bouncers      = "bouncer"
	shards        = "shard"
	catalogs      = "catalog"
	natsServers   = "nats"
	clients       = "client"
)

// card is one kind of fault; the deck below is dealt out again and again, so
// that a schedule of any length has every kind about equally often.
type card struct {
	verb     verb
	from, to string // kinds of parts; from is for cables only
}

func (c card) String() string {
	switch {
	case c.from != "":
		return fmt.Sprintf("%s %s-%s", c.verb, c.from, c.to)
	case c.to != "":
		return fmt.Sprintf("%s %s", c.verb, c.to)
	default:
		return string(c.verb)
	}
}

// cables are who talks to whom.
var cables = [][2]string{
	{controlPlanes, catalogs}, {controlPlanes, natsServers}, {controlPlanes, shards}, {controlPlanes, bouncers},
	{nodes, natsServers}, {nodes, bouncers}, {nodes, controlPlanes}, {shards, shards}, {bouncers, shards}, {clients, nodes}, {clients, bouncers},
}

func deck() []card {
	d := []card{{verb: fills, to: shards}, {verb: drops}, {verb: drops}, {verb: drains, to: shards}, {verb: evens}, {verb: evens}, {verb: rotates, to: shards}, {verb: rotates, to: shards}, {verb: empties, to: natsServers}, {verb: restarts, to: catalogs}, {verb: restarts, to: shards}, {verb: restarts, to: shards}}
	for _, part := range []string{controlPlanes, controlPlanes, nodes, bouncers, natsServers} {
		d = append(d, card{verb: kills, to: part}, card{verb: freezes, to: part})
	}
	for _, c := range cables {
		d = append(d, card{cuts, c[0], c[1]}, card{silences, c[0], c[1]}, card{slows, c[0], c[1]})
	}
	return d
}

// shortDeck has every verb but the runs, which have a test of their own
// (TestRebalanceAndDrain), and no more than a test may take.
func shortDeck() []card {
	return []card{
		{kills, "", controlPlanes}, {kills, "", nodes}, {kills, "", bouncers}, {kills, "", natsServers},
		{freezes, "", controlPlanes}, {freezes, "", bouncers}, {restarts, "", catalogs}, {restarts, "", shards},
		{empties, "", natsServers}, {cuts, nodes, bouncers}, {cuts, shards, shards}, {silences, controlPlanes, natsServers},
		{silences, controlPlanes, shards}, {slows, shards, shards}, {fills, "", shards}, {drops, "", ""},
		{rotates, "", shards},
	}
}

// fault is one line of a schedule.
type fault struct {
	Number int    `json:"number"`
	Kind   string `json:"kind"` // of the card
	Verb   verb   `json:"verb"`
	// From and To are parts by name; what is done to one part has To only.
	From string        `json:"from,omitempty"`
	To   string        `json:"to,omitempty"`
	For  time.Duration `json:"for"`
	// Condition of a cable.
	Condition network.Condition `json:"condition,omitzero"`
	// Overlaps: the next fault comes before this one is mended.
	Overlaps bool `json:"overlaps,omitempty"`
}

func (f fault) String() string {
	s := fmt.Sprintf("fault %d: %s %s", f.Number, f.Verb, f.To)
	if f.From != "" {
		s = fmt.Sprintf("fault %d: %s %s → %s", f.Number, f.Verb, f.From, f.To)
	}
	if f.For == 0 {
		return s
	}
	return fmt.Sprintf("%s for %s", s, f.For)
}

// parts names the parts of each kind; filled is the shard whose disk can be full.
type parts struct {
	of     map[string][]string
	filled string
}

func partsOf(shardCount int) parts {
	p := parts{of: map[string][]string{
		controlPlanes: {"controlplane", "controlplane-2"}, nodes: {"dataplane-1", "dataplane-2"},
		catalogs: {"postgres-catalog"}, natsServers: {"nats"}, clients: {network.Outside},
	}}
	for i := range shardCount {
		p.of[shards] = append(p.of[shards], fmt.Sprintf("postgres-s%d", i+1))
		p.of[bouncers] = append(p.of[bouncers], fmt.Sprintf("bouncer-s%d", i+1))
	}
	p.filled = p.of[shards][shardCount-1]
	return p
}

// schedule deals n faults. The same seed, deck and parts give the same schedule.
func schedule(seed uint64, n int, deck []card, p parts) []fault {
	r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // to be repeated
	pick := func(kind string) string { return p.of[kind][r.IntN(len(p.of[kind]))] }
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(r.Int64N(int64(most-least))).Round(time.Millisecond)
	}
	var all []fault
	for len(all) < n {
		cards := slices.Clone(deck)
		r.Shuffle(len(cards), func(i, j int) { cards[i], cards[j] = cards[j], cards[i] })
		for _, c := range cards[:min(len(cards), n-len(all))] {
			f := fault{Number: len(all) + 1, Kind: c.String(), Verb: c.verb, For: between(100*time.Millisecond, 1500*time.Millisecond), Overlaps: r.IntN(4) == 0}
			if c.to != "" {
				f.To = pick(c.to)
			}
			if c.from != "" {
				for f.From = pick(c.from); f.From == f.To; f.From = pick(c.from) {
				}
			}
			switch c.verb {
			case cuts:
				f.Condition.Cut = true
			case silences:
				f.Condition.Dead, f.For = true, between(500*time.Millisecond, 4*time.Second)
			case slows:
				f.Condition = network.Condition{Delay: between(5*time.Millisecond, 120*time.Millisecond), BytesPerSecond: 64<<10 + r.IntN(1<<20)}
				f.For = between(time.Second, 3*time.Second)
			case freezes:
				f.For = between(200*time.Millisecond, 4*time.Second) // a lease is 2 s
			case fills:
				f.To, f.For = p.filled, between(time.Second, 3*time.Second)
			case drops, evens, rotates:
				f.For = 0
			case drains:
				f.For = between(time.Second, 8*time.Second) // some are done by then
			}
			all = append(all, f)
		}
	}
	for i := range all { // two at once are enough, a part is mended before something else is done to it, and before the control plane is asked for anything
		last := i == len(all)-1
		if last || i > 0 && all[i-1].Overlaps || slices.Contains([]verb{drops, drains, evens, rotates}, all[i+1].Verb) || all[i].From == "" && all[i+1].From == "" && all[i].To == all[i+1].To {
			all[i].Overlaps = false
		}
	}
	return all
}

func TestScheduleFollowsFromItsSeed(t *testing.T) {
	p := partsOf(3)
	one := schedule(7, 500, deck(), p)
	require.Equal(t, one, schedule(7, 500, deck(), p))
	require.NotEqual(t, one, schedule(8, 500, deck(), p))
	require.Len(t, one, 500)
	seen := map[string]int{}
	for _, f := range one {
		seen[f.Kind]++
		require.True(t, f.To == "" || f.From != f.To, "%v", f)
	}
	for _, c := range deck() {
		require.GreaterOrEqual(t, seen[c.String()], 500/len(deck()), "%v", c)
	}
	verbs := map[verb]bool{}
	for _, f := range schedule(1, len(shortDeck()), shortDeck(), partsOf(2)) {
		verbs[f.Verb] = true
	}
	require.Len(t, verbs, 10, "the short form has every verb but the runs")
}
