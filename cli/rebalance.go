package cli

import (
	"cmp"
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
	cmd.AddCommand(rebalancePlanCommand(), rebalancePlansCommand(), rebalanceShowCommand(), rebalanceSimulateCommand(), rebalancePolicyCommand())
	cmd.AddCommand(rebalanceRunCommands()...)
	return cmd
}

// printOutcome prints what planning came to, for people: the shards as bars, then the whole in a few lines.
func printOutcome(cmd *cobra.Command, r *simulate.Result, limit int) error {
	out, f := cmd.OutOrStdout(), outputFormat(cmd)
	shown := mostChanged(r.Plan.Shards, limit)
	if err := printItems(out, f, shown, shardChangeColumns); err != nil {
		return err
	}
	if left := len(r.Plan.Shards) - len(shown); left > 0 {
		fmt.Fprintf(out, "… and %d shards more, which change less\n", left)
	}
	fmt.Fprintf(out, "\nfullest shard: %.2f × its bound before, %.2f after\n", r.WorstBefore, r.WorstAfter)
	fmt.Fprintf(out, "%d moves (%.1f %% of the tenants), %s", len(r.Plan.Moves), 100*float64(len(r.Plan.Moves))/float64(max(1, r.Tenants)), size(int64(r.Plan.Bytes)))
	if r.LeastBytes > 0 {
		fmt.Fprintf(out, ", %.2f × what has to move at least", r.Plan.Bytes/r.LeastBytes)
	}
	fmt.Fprintf(out, "; planned in %s\n", time.Duration(r.Seconds*float64(time.Second)).Round(10*time.Microsecond))
	if len(r.Rivals) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	return printItems(out, f, r.Rivals, []column[simulate.Outcome]{
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
