package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/balance"
)

func rebalancePlanCommand() *cobra.Command {
	var in api.MakePlan
	var ch change
	var bars, moves int
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Plan which tenants should move where, and keep the plan; nothing is moved",
		Long: `Plan which tenants should move where, for the fleet as it is or as a scenario
supposes it. Each shard is shown before and after: twelve blocks are its even
share, in the dimension where it carries most of that. Each move says why.

The plan is kept for a day and carried out by ` + "`rebalance apply`" + `. A demand that
cannot be met is refused with the constraint that stands against it.`,
		Example: `  tenant-ops rebalance plan
  tenant-ops rebalance plan --scenario drain=s3
  tenant-ops rebalance plan --scenario add-shard=4 -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := balance.ParseScenario(in.Scenario); err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			made, err := c.MakePlan(cmd.Context(), in, ch.Change)
			if err != nil {
				return err
			}
			plan, err := c.RebalancePlan(cmd.Context(), made.ID)
			if err != nil {
				return err
			}
			return printWholePlan(cmd, plan, bars, moves)
		},
	}
	cmd.Flags().StringVar(&in.Scenario, "scenario", "", "what to suppose: add-shard=N, drain=SHARD, or several with commas between")
	cmd.Flags().BoolVar(&in.Partial, "partial", false, "plan what can be done where something cannot, and say what cannot")
	shownFlags(cmd, &bars, &moves)
	ch.flags(cmd)
	return cmd
}

func shownFlags(cmd *cobra.Command, bars, moves *int) {
	barsFlag(cmd, bars)
	cmd.Flags().IntVar(moves, "moves", 20, "at most this many moves, in their order; 0: all")
}

var rebalancePlanColumns = []column[api.RebalancePlan]{
	{"id", func(p api.RebalancePlan) any { return p.ID }},
	{"scenario", func(p api.RebalancePlan) any { return p.Scenario }},
	{"moves", func(p api.RebalancePlan) any { return p.MoveCount }},
	{"bytes", func(p api.RebalancePlan) any { return size(int64(p.Bytes)) }},
	{"policy", func(p api.RebalancePlan) any { return p.PolicyVersion }},
	{"by", func(p api.RebalancePlan) any { return p.CreatedBy }},
	{"made", func(p api.RebalancePlan) any { return p.CreatedAt }},
	{"expires", func(p api.RebalancePlan) any { return p.ExpiresAt }},
	{"reason", func(p api.RebalancePlan) any { return p.Reason }},
}

func rebalancePlansCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "plans",
		Short: "List plans that were made, newest first",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			return printList(cmd, c.RebalancePlans(cmd.Context()), limit, rebalancePlanColumns)
		},
	}
	limitFlag(cmd, &limit)
	return cmd
}

func rebalanceShowCommand() *cobra.Command {
	var bars, moves int
	cmd := &cobra.Command{
		Use:   "show PLAN",
		Short: "Show a plan that was made",
		Args:  oneArg("plan's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			plan, err := c.RebalancePlan(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printWholePlan(cmd, plan, bars, moves)
		},
	}
	shownFlags(cmd, &bars, &moves)
	return cmd
}

var moveColumns = []column[api.PlannedMove]{
	{"tenant", func(m api.PlannedMove) any { return m.Tenant }},
	{"from", func(m api.PlannedMove) any { return m.From }},
	{"to", func(m api.PlannedMove) any { return m.To }},
	{"bytes", func(m api.PlannedMove) any { return size(int64(m.Bytes)) }},
	{"why", func(m api.PlannedMove) any { return m.Reason + ": " + m.Detail }},
}

func printWholePlan(cmd *cobra.Command, p api.WholePlan, bars, limit int) error {
	out := cmd.OutOrStdout()
	f := outputFormat(cmd)
	switch f {
	case asJSON, asYAML:
		return printDocument(out, f, p)
	case asCSV:
		return printItems(out, f, p.Moves, moveColumns)
	}
	if err := printOutcome(cmd, resultOf(p.PlannedOutcome), bars); err != nil {
		return err
	}
	if len(p.Moves) > 0 {
		fmt.Fprintln(out)
		shown := p.Moves
		if limit > 0 {
			shown = shown[:min(limit, len(shown))]
		}
		if err := printItems(out, f, shown, moveColumns); err != nil {
			return err
		}
		if left := len(p.Moves) - len(shown); left > 0 {
			fmt.Fprintf(out, "… and %d moves more (--moves 0 shows all)\n", left)
		}
	}
	if len(p.Refused) > 0 {
		fmt.Fprintln(out, "\nwhat cannot be done:")
		if err := printItems(out, f, p.Refused, []column[api.PlanRefusal]{
			{"tenant", func(r api.PlanRefusal) any { return r.Tenant }},
			{"constraint", func(r api.PlanRefusal) any { return r.Constraint }},
			{"because", func(r api.PlanRefusal) any { return r.Detail }},
		}); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "\nplan %s, made by %s at %s with version %d of the policy\n", p.ID, clean(p.CreatedBy), p.CreatedAt.Local().Format(time.DateTime), p.PolicyVersion)
	next(cmd, afterPlan(p)...)
	return nil
}

// afterPlan is what may be done about a plan.
func afterPlan(p api.WholePlan) []string {
	sc, err := balance.ParseScenario(p.Scenario)
	switch {
	case err != nil:
		return nil
	case sc.Add > 0:
		return []string{"shard add --help", "rebalance plan"}
	case len(sc.Drain) > 0:
		var drains []string
		for _, id := range sc.Drain {
			drains = append(drains, "shard drain "+string(id))
		}
		return drains
	case len(p.Moves) > 0 && time.Now().Before(p.ExpiresAt):
		return []string{"tenant explain " + string(p.Moves[0].Tenant), "rebalance apply " + p.ID}
	}
	return nil
}
