package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

func shardUpgradeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "upgrade", Short: "See what upgrading a shard's tenants to a newer Postgres means"}
	cmd.AddCommand(shardUpgradePlanCommand())
	return cmd
}

func shardUpgradePlanCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "plan ID --to SHARD",
		Short: "Say what draining a shard onto another, usually newer one means",
		Long: `Say what draining a shard onto another, usually newer one means: each of its
tenants, whether its move could begin, what stands in the way and what to do
about it, its size, and an estimate of how long the move takes. Nothing is changed.

A move to a shard on a newer Postgres is an online upgrade of that tenant.`,
		Example:           "  tenant-ops shard upgrade plan s1 --to s4\n  tenant-ops shard upgrade plan s1 --to s4 -o json",
		Args:              oneArg("shard's ID"),
		ValidArgsFunction: completeShards,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkShard(cmd, to); err != nil {
				return err
			}
			c, err := connectFor(cmd, checkShard, args[0])
			if err != nil {
				return err
			}
			plan, err := c.PlanUpgrade(cmd.Context(), args[0], to)
			if err != nil {
				return err
			}
			return printUpgrade(cmd, plan)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the shard to drain onto")
	mustGive(cmd, "to")
	completeFlag(cmd, "to", completeShards)
	return cmd
}

var prospectColumns = []column[api.Prospect]{
	{"tenant", func(p api.Prospect) any { return p.Tenant }},
	{"can move", func(p api.Prospect) any {
		if p.Feasible {
			return "yes"
		}
		return "no"
	}},
	{"tables", func(p api.Prospect) any { return p.Tables }},
	{"size", func(p api.Prospect) any { return size(p.Bytes) }},
	{"estimate", func(p api.Prospect) any { return estimate(p) }},
	{"what is in the way", func(p api.Prospect) any { return sentences(p.Refusals, p.Waits) }},
}

func estimate(p api.Prospect) string {
	if !p.Feasible {
		return ""
	}
	return roughly(p.EstimateSeconds)
}

func roughly(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Hour {
		return d.Round(time.Second).String()
	}
	return d.Round(time.Minute).String()
}

func sentences(lists ...[]api.Finding) string {
	var all []string
	for _, list := range lists {
		for _, f := range list {
			s := f.Reason
			if f.Object != "" {
				s = f.Object + ": " + s
			}
			if f.Remedy != "" {
				s += " (" + f.Remedy + ")"
			}
			all = append(all, s)
		}
	}
	return strings.Join(all, "; ")
}

func printUpgrade(cmd *cobra.Command, plan api.UpgradePlan) error {
	out := cmd.OutOrStdout()
	switch f := outputFormat(cmd); f {
	case asJSON, asYAML:
		return printDocument(out, f, plan)
	default:
		if err := printItems(out, f, plan.Items, prospectColumns); err != nil {
			return err
		}
		if f != asTable {
			return nil
		}
	}
	able, bytes, seconds := 0, int64(0), 0.0
	first := ""
	for _, p := range plan.Items {
		if p.Feasible {
			if able == 0 {
				first = string(p.Tenant)
			}
			able, bytes, seconds = able+1, bytes+p.Bytes, seconds+p.EstimateSeconds
		}
	}
	by := "assumed"
	if plan.Measured {
		by = "the median of the latest moves"
	}
	fmt.Fprintf(out, "\n%s (Postgres %s) to %s (Postgres %s): %d of %d tenants can move, %s, one after the other about %s at %s/s (%s)\n",
		plan.From.Shard, plan.From.Postgres, plan.To.Shard, plan.To.Postgres, able, len(plan.Items), size(bytes), roughly(seconds), size(int64(plan.BytesPerSecond)), by)
	if plan.Room >= 0 && plan.Room < len(plan.Items) {
		return &statusError{exitRefused, "raise its max_databases, or drain onto more than one shard",
			fmt.Errorf("shard %s has room for %d more databases, fewer than the %d tenants", plan.To.Shard, plan.Room, len(plan.Items))}
	}
	if able < len(plan.Items) {
		return &statusError{exitRefused, "do what the last column says, and plan again; nothing was changed",
			errors.New("not every tenant can move")}
	}
	if first != "" {
		next(cmd, "tenant move "+first+" --to "+string(plan.To.Shard))
	}
	return nil
}
