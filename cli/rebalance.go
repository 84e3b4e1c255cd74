package cli

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/balance/simulate"
)

func rebalanceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "rebalance", Short: "Plan where tenants should live", GroupID: "operate"}
	cmd.AddCommand(rebalanceSimulateCommand(), rebalancePolicyCommand())
	return cmd
}

// simulation is what `rebalance simulate` shows.
type simulation struct {
	Tenants int    `json:"tenants"`
	Shards  int    `json:"shards"`
	Seed    uint64 `json:"seed"`
	// WorstBefore and WorstAfter are the fullest shard over its bound.
	WorstBefore float64            `json:"worst_before"`
	WorstAfter  float64            `json:"worst_after"`
	LeastBytes  float64            `json:"least_bytes"`
	Seconds     float64            `json:"seconds"`
	Plan        *balance.Plan      `json:"plan"`
	Rivals      []simulate.Outcome `json:"rivals,omitempty"`
}

func rebalanceSimulateCommand() *cobra.Command {
	g := simulate.Fleet{Seed: 1, Tenants: 10_000, Shards: 20}
	policy := balance.DefaultPolicy()
	var spread, event, scenario, file string
	var rivals bool
	var bars int
	events := make([]string, len(simulate.Cases))
	for i, c := range simulate.Cases {
		events[i] = c.Name
	}
	spreads := []string{string(simulate.Even), string(simulate.Hashed), string(simulate.OneFar)}
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Plan for a made-up fleet of any size, and show what it would come to",
		Long: `Make up a fleet with sizes and loads as skewed as real ones, plan for it, and
show each shard before and after. No server is needed, and nothing is changed.
The same seed makes up the same fleet.

Shares are of what a shard would carry if all were spread evenly, in the
dimension where it carries most of that: bytes, connections, load, WAL or
number of databases.`,
		Example: `  tenant-ops rebalance simulate --event more-shards
  tenant-ops rebalance simulate --tenants 100000 --shards 100 --scenario drain=s7 --rivals
  tenant-ops rebalance simulate --spread hashed --mixed -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			wrong := func(err error) error { return &usageError{cmd.CommandPath(), err} }
			g.Spread = simulate.Spread(spread)
			sc, err := balance.ParseScenario(scenario)
			if err != nil {
				return wrong(err)
			}
			if file != "" {
				d, err := readPolicyFile(cmd, file)
				if err != nil {
					return err
				}
				policy = d.Policy
			}
			f, err := g.Make()
			if err != nil {
				return wrong(err)
			}
			if event != "" {
				i := slices.Index(events, event)
				if i < 0 || scenario != "" {
					return wrong(fmt.Errorf("--event: want one of %s, and no --scenario beside it", strings.Join(events, ", ")))
				}
				f, sc = simulate.Cases[i].Happen(f, g.Seed)
			}
			s, err := play(f, &policy, sc, rivals)
			var infeasible *balance.InfeasibleError
			switch {
			case errors.As(err, &infeasible):
				return &statusError{exitRefused, "", err}
			case errors.Is(err, balance.ErrInvalid):
				return wrong(err)
			case err != nil:
				return err
			}
			s.Tenants, s.Shards, s.Seed = g.Tenants, g.Shards, g.Seed
			return printSimulation(cmd, s, bars)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&g.Tenants, "tenants", g.Tenants, "tenants of the fleet")
	flags.IntVar(&g.Shards, "shards", g.Shards, "shards of the fleet")
	flags.Uint64Var(&g.Seed, "seed", g.Seed, "what the fleet follows from")
	flags.StringVar(&spread, "spread", spreads[0], "how tenants lie before: "+strings.Join(spreads, ", "))
	flags.BoolVar(&g.Mixed, "mixed", false, "regions, shards of different sizes, anti-affinity groups, pinned tenants")
	flags.StringVar(&event, "event", "", "what happens to the fleet: "+strings.Join(events, ", "))
	flags.StringVar(&scenario, "scenario", "", "what to suppose: add-shard=N, drain=SHARD, or several with commas between")
	flags.StringVar(&file, "policy", "", "file with the policy, as `rebalance policy` describes; its shards and tenants don't count")
	flags.BoolVar(&rivals, "rivals", false, "show beside what other ways of balancing come to")
	flags.IntVar(&bars, "bars", 20, "at most this many shards, those that change most; 0: all")
	completeFlag(cmd, "spread", cobra.FixedCompletions(spreads, cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "event", cobra.FixedCompletions(events, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func play(f *balance.Fleet, p *balance.Policy, sc balance.Scenario, rivals bool) (*simulation, error) {
	assumed, err := sc.Apply(f)
	if err != nil {
		return nil, err
	}
	before, err := balance.Stand(assumed, p)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	plan, err := balance.Make(f, p, balance.Ask{Now: began, Scenario: sc})
	if err != nil {
		return nil, err
	}
	s := &simulation{WorstBefore: before.Worst, LeastBytes: before.LeastBytes, Seconds: time.Since(began).Seconds(), Plan: plan}
	ours, err := simulate.Judge(assumed, p, plan)
	if err != nil {
		return nil, err
	}
	s.WorstAfter = ours.Worst
	if !rivals {
		return s, nil
	}
	s.Rivals = append(s.Rivals, ours)
	for _, r := range simulate.Rivals {
		o, err := r.Play(assumed, p)
		if err != nil {
			return nil, err
		}
		s.Rivals = append(s.Rivals, o)
	}
	return s, nil
}

func printSimulation(cmd *cobra.Command, s *simulation, limit int) error {
	out := cmd.OutOrStdout()
	f := outputFormat(cmd)
	switch f {
	case asJSON, asYAML:
		return printDocument(out, f, s)
	case asCSV:
		return printItems(out, f, s.Plan.Shards, shardChangeColumns)
	}
	shown := mostChanged(s.Plan.Shards, limit)
	if err := printItems(out, f, shown, shardChangeColumns); err != nil {
		return err
	}
	if left := len(s.Plan.Shards) - len(shown); left > 0 {
		fmt.Fprintf(out, "… and %d shards more, which change less\n", left)
	}
	fmt.Fprintf(out, "\nfullest shard: %.2f × its bound before, %.2f after\n", s.WorstBefore, s.WorstAfter)
	fmt.Fprintf(out, "%d moves (%.1f %% of the tenants), %s", len(s.Plan.Moves), 100*float64(len(s.Plan.Moves))/float64(s.Tenants), size(int64(s.Plan.Bytes)))
	if s.LeastBytes > 0 {
		fmt.Fprintf(out, ", %.2f × what has to move at least", s.Plan.Bytes/s.LeastBytes)
	}
	fmt.Fprintf(out, "; planned in %s\n", time.Duration(s.Seconds*float64(time.Second)).Round(10*time.Microsecond))
	if len(s.Rivals) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	return printItems(out, f, s.Rivals, []column[simulate.Outcome]{
		{"way", func(o simulate.Outcome) any { return o.Name }},
		{"fullest", func(o simulate.Outcome) any { return fmt.Sprintf("%.2f ×", o.Worst) }},
		{"moves", func(o simulate.Outcome) any { return o.Moves }},
		{"bytes", func(o simulate.Outcome) any { return size(int64(o.Bytes)) }},
	})
}

var shardChangeColumns = []column[balance.ShardChange]{
	{"shard", func(c balance.ShardChange) any { return c.ID }},
	{"state", func(c balance.ShardChange) any { return c.State }},
	{"before", func(c balance.ShardChange) any { return bar(c.Before) }},
	{"after", func(c balance.ShardChange) any { return bar(c.After) }},
	{"tenants", func(c balance.ShardChange) any { return fmt.Sprintf("%d → %d", c.Before.Tenants, c.After.Tenants) }},
	{"bytes", func(c balance.ShardChange) any {
		return size(int64(c.Before.Load[balance.Bytes])) + " → " + size(int64(c.After.Load[balance.Bytes]))
	}},
}

// mostChanged are the shards whose share changes most, in the fleet's order.
func mostChanged(all []balance.ShardChange, limit int) []balance.ShardChange {
	if limit <= 0 || len(all) <= limit {
		return all
	}
	byChange := make([]int, len(all))
	for i := range all {
		byChange[i] = i
	}
	change := func(i int) float64 { return math.Abs(all[i].After.Share - all[i].Before.Share) }
	slices.SortStableFunc(byChange, func(a, b int) int { return cmp.Compare(change(b), change(a)) })
	byChange = byChange[:limit]
	slices.Sort(byChange)
	var shown []balance.ShardChange
	for _, i := range byChange {
		shown = append(shown, all[i])
	}
	return shown
}

// bar draws what a shard carries of its even share: a dozen blocks are all of it, twice that is the end.
func bar(l balance.ShardLoad) string {
	const even, most = 12, 24
	n := min(most, int(math.Round(l.Share*even)))
	return fmt.Sprintf("%s%s %4.2f %s", strings.Repeat("█", n), strings.Repeat("·", max(0, even-n)), l.Share, l.In)
}
