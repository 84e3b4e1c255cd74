package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/balance/simulate"
)

// simulation is what `rebalance simulate` was asked.
type simulation struct {
	simulate.Fleet
	spread, event, scenario, file string
	rivals, live                  bool
	bars                          int
}

// simulated is what it shows of a made-up fleet.
type simulated struct {
	*simulate.Result
	Seed uint64 `json:"seed"`
}

func rebalanceSimulateCommand() *cobra.Command {
	s := simulation{Fleet: simulate.Fleet{Seed: 1, Tenants: 10_000, Shards: 20}}
	events := eventNames()
	spreads := []string{string(simulate.Even), string(simulate.Hashed), string(simulate.OneFar)}
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Plan for a made-up fleet of any size, or for this one if things were otherwise",
		Long: `Make up a fleet with sizes and loads as skewed as real ones, plan for it, and
show each shard before and after. No server is needed, and nothing is changed.
The same seed makes up the same fleet.

With --live it is the running fleet, with the loads that were recorded of it, and
the policy file, if there is one, is supposed to have been applied to it.

Shares are of what a shard would carry if all were spread evenly, in the
dimension where it carries most of that: bytes, connections, load, WAL or
number of databases.`,
		Example: `  tenant-ops rebalance simulate --event more-shards
  tenant-ops rebalance simulate --tenants 100000 --shards 100 --scenario drain=s7 --rivals
  tenant-ops rebalance simulate --spread hashed --mixed -o json
  tenant-ops rebalance simulate --live --scenario add-shard=2 --policy new.yaml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.live {
				return s.runLive(cmd)
			}
			return s.run(cmd)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&s.live, "live", false, "the running fleet, with its recorded loads")
	flags.IntVar(&s.Tenants, "tenants", s.Tenants, "tenants of the fleet")
	flags.IntVar(&s.Shards, "shards", s.Shards, "shards of the fleet")
	flags.Uint64Var(&s.Seed, "seed", s.Seed, "what the fleet, or what happens to it, follows from")
	flags.StringVar(&s.spread, "spread", spreads[0], "how tenants lie before: "+strings.Join(spreads, ", "))
	flags.BoolVar(&s.Mixed, "mixed", false, "regions, shards of different sizes, anti-affinity groups, pinned tenants")
	flags.StringVar(&s.event, "event", "", "what happens to the fleet: "+strings.Join(events, ", "))
	flags.StringVar(&s.scenario, "scenario", "", "what to suppose: add-shard=N, drain=SHARD, or several with commas between")
	flags.StringVar(&s.file, "policy", "", "file with the policy, as `rebalance policy` describes; its shards and tenants count with --live only")
	flags.BoolVar(&s.rivals, "rivals", false, "show beside what other ways of balancing come to")
	barsFlag(cmd, &s.bars)
	completeFlag(cmd, "spread", cobra.FixedCompletions(spreads, cobra.ShellCompDirectiveNoFileComp))
	completeFlag(cmd, "event", cobra.FixedCompletions(events, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func barsFlag(cmd *cobra.Command, bars *int) {
	cmd.Flags().IntVar(bars, "bars", 20, "at most this many shards, those that change most; 0: all")
}

func eventNames() (names []string) {
	for _, c := range simulate.Cases {
		names = append(names, c.Name)
	}
	return names
}

// check refuses what the command line gets wrong, before anything is asked.
func (s *simulation) check(cmd *cobra.Command) (balance.Scenario, error) {
	sc, err := balance.ParseScenario(s.scenario)
	if err == nil && s.event != "" && (!slices.Contains(eventNames(), s.event) || s.scenario != "") {
		err = fmt.Errorf("--event: want one of %s, and no --scenario beside it", strings.Join(eventNames(), ", "))
	}
	if err != nil {
		return sc, &usageError{cmd.CommandPath(), err}
	}
	return sc, nil
}

func (s *simulation) run(cmd *cobra.Command) error {
	wrong := func(err error) error { return &usageError{cmd.CommandPath(), err} }
	sc, err := s.check(cmd)
	if err != nil {
		return err
	}
	policy := balance.DefaultPolicy()
	if s.file != "" {
		d, err := readPolicyFile(cmd, s.file)
		if err != nil {
			return err
		}
		policy = d.Policy
	}
	s.Spread = simulate.Spread(s.spread)
	f, err := s.Make()
	if err != nil {
		return wrong(err)
	}
	if s.event != "" {
		f, sc = simulate.Cases[slices.Index(eventNames(), s.event)].Happen(f, s.Seed)
	}
	r, err := simulate.Run(f, &policy, balance.Ask{Now: time.Now(), Scenario: sc}, s.rivals)
	var infeasible *balance.InfeasibleError
	switch {
	case errors.As(err, &infeasible):
		return &statusError{exitRefused, "", err}
	case errors.Is(err, balance.ErrInvalid):
		return wrong(err)
	case err != nil:
		return err
	}
	r.Shards = s.Shards
	return s.print(cmd, simulated{r, s.Seed}, r)
}

func (s *simulation) runLive(cmd *cobra.Command) error {
	if _, err := s.check(cmd); err != nil {
		return err
	}
	for _, made := range []string{"tenants", "shards", "spread", "mixed"} {
		if cmd.Flags().Changed(made) {
			return &usageError{cmd.CommandPath(), fmt.Errorf("--%s is for a made-up fleet, not beside --live", made)}
		}
	}
	in := api.Simulate{Scenario: s.scenario, Event: s.event, Seed: s.Seed, Rivals: s.rivals}
	if s.file != "" {
		text, _, err := loadPolicyFile(cmd, s.file)
		if err != nil {
			return err
		}
		in.File = string(text)
	}
	c, err := connect(cmd)
	if err != nil {
		return err
	}
	o, err := c.Simulate(cmd.Context(), in)
	if err != nil {
		return err
	}
	return s.print(cmd, o, resultOf(o))
}

func (s *simulation) print(cmd *cobra.Command, doc any, r *simulate.Result) error {
	switch f := outputFormat(cmd); f {
	case asJSON, asYAML:
		return printDocument(cmd.OutOrStdout(), f, doc)
	case asCSV:
		return printItems(cmd.OutOrStdout(), f, r.Plan.Shards, shardChangeColumns)
	}
	return printOutcome(cmd, r, s.bars)
}

// resultOf is what the admin API says planning came to, in the planner's own words.
func resultOf(o api.PlannedOutcome) *simulate.Result {
	p := &balance.Plan{}
	for _, m := range o.Moves {
		p.Bytes += m.Bytes
		p.Moves = append(p.Moves, balance.Move{Tenant: m.Tenant, From: m.From, To: m.To, Bytes: m.Bytes, Reason: balance.Reason{Kind: balance.Kind(m.Reason), Detail: m.Detail}})
	}
	for _, s := range o.Shards {
		p.Shards = append(p.Shards, balance.ShardChange{ID: s.Shard, State: balance.State(s.State), Capacity: vectorOf(s.Capacity), Before: loadOf(s.Before), After: loadOf(s.After)})
	}
	for _, r := range o.Refused {
		p.Refused = append(p.Refused, balance.Refusal{Tenant: r.Tenant, Constraint: balance.Constraint(r.Constraint), Detail: r.Detail})
	}
	r := &simulate.Result{Tenants: o.Tenants, Shards: len(o.Shards), WorstBefore: o.WorstBefore, WorstAfter: o.WorstAfter, LeastBytes: o.LeastBytes, Seconds: o.Seconds, Plan: p}
	for _, rival := range o.Rivals {
		r.Rivals = append(r.Rivals, simulate.Outcome(rival))
	}
	return r
}

func loadOf(l api.ShardLoad) balance.ShardLoad {
	return balance.ShardLoad{Load: vectorOf(l.Load), Tenants: l.Tenants, Share: l.Share, In: l.In}
}

func vectorOf(a api.Amounts) balance.Vector {
	return balance.Vector{balance.Bytes: a.Bytes, balance.Connections: a.Connections, balance.Load: a.Load, balance.WAL: a.WAL, balance.Databases: a.Databases}
}
