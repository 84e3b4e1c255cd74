package chaos

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/freehold-db/freehold/test/chaos/history"
)

// report is what a run has shown.
type report struct {
	Seed    uint64  `json:"seed"`
	Seconds float64 `json:"seconds"`
	// Faults injected; Missed found nothing that they could be done to.
	Faults int `json:"faults"`
	Missed int `json:"missed"`
	// Operations of all clients; Unknown are those of which nobody knew whether they were done.
	Operations int `json:"operations"`
	Unknown    int `json:"unknown_outcomes"`
	// Lost, Doubled and Crossed are of ledger and registers together.
	Lost    int `json:"lost"`
	Doubled int `json:"doubled"`
	Crossed int `json:"crossed"`
	// NotLinearizable are registers whose history no single database could have.
	NotLinearizable int `json:"not_linearizable"`

	Kinds  map[string]*kindReport `json:"kinds"`
	Ledger history.Audit          `json:"ledger"`
	// Moves by how they ended, with the error of one of each.
	Moves    map[string]int    `json:"moves"`
	MoveErrs map[string]string `json:"move_errors"`
	// Failures are operations without a good answer, by what was said, with one of each.
	Failures map[string]int    `json:"failures"`
	Examples map[string]string `json:"examples"`
	// Died are parts that ended by themselves, by the kind of fault.
	Died map[string]int `json:"died,omitempty"`
	// Wrong is all that must not be.
	Wrong []string `json:"wrong,omitempty"`
}

// kindReport is about all faults of one kind.
type kindReport struct {
	Faults int `json:"faults"`
	// LongestREST and LongestWire are the longest times for which a tenant had no good
	// answer, from the fault until all were served again, in milliseconds.
	LongestREST int64 `json:"longest_rest_ms"`
	LongestWire int64 `json:"longest_wire_ms"`
}

// add counts a fault and the unavailability around it.
func (r *report) add(f fault, lanes []*lane, from, to time.Duration) {
	k := r.Kinds[f.Kind]
	if k == nil {
		k = &kindReport{}
		r.Kinds[f.Kind] = k
	}
	k.Faults++
	r.Faults++
	for _, l := range lanes {
		longest := &k.LongestREST
		if l.how == byWire {
			longest = &k.LongestWire
		}
		*longest = max(*longest, l.gap(from, to).Milliseconds())
	}
}

func (r *report) wrong(format string, args ...any) {
	r.Wrong = append(r.Wrong, fmt.Sprintf(format, args...))
}

func (r *report) write(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o600)
}

// String is for people.
func (r *report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d faults in %.0f s (%.1f a minute; %d found nothing to be done to), %d operations, %d unknown outcomes\n",
		r.Seed, r.Faults, r.Seconds, float64(r.Faults)/r.Seconds*60, r.Missed, r.Operations, r.Unknown)
	fmt.Fprintf(&b, "lost %d, doubled %d, crossed %d, registers not linearizable %d; of %d unknown transactions %d were done\n",
		r.Lost, r.Doubled, r.Crossed, r.NotLinearizable, r.Ledger.Unknown, r.Ledger.UnknownDone)
	fmt.Fprintf(&b, "\n  %-34s %6s  %s\n", "fault", "times", "longest unavailability, ms: REST, wire")
	for _, kind := range slices.Sorted(maps.Keys(r.Kinds)) {
		k := r.Kinds[kind]
		fmt.Fprintf(&b, "  %-34s %6d  %7d %7d\n", kind, k.Faults, k.LongestREST, k.LongestWire)
	}
	list := func(title string, counts map[string]int, examples map[string]string) {
		if len(counts) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n%s\n", title)
		names := slices.Collect(maps.Keys(counts))
		slices.SortFunc(names, func(x, y string) int { return cmp.Or(cmp.Compare(counts[y], counts[x]), cmp.Compare(x, y)) })
		for _, n := range names {
			fmt.Fprintf(&b, "  %6d  %s", counts[n], n)
			if e := examples[n]; e != "" {
				fmt.Fprintf(&b, "  (%s)", strings.Join(strings.Fields(e), " "))
			}
			b.WriteString("\n")
		}
	}
	list("moves", r.Moves, r.MoveErrs)
	list("operations without a good answer", r.Failures, r.Examples)
	list("parts that ended by themselves", r.Died, nil)
	for _, w := range r.Wrong {
		fmt.Fprintf(&b, "WRONG: %s\n", w)
	}
	return b.String()
}
