package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

func shardDrainCommand() *cobra.Command {
	var ch change
	var yes, detach, dryRun, show, undo bool
	cmd := &cobra.Command{
		Use:   "drain ID",
		Short: "Empty a shard: move its tenants to where there is room, while they are served",
		Long: `Empty a shard: it takes no tenants any more, its warm pool goes, and its tenants are
moved to where there is room, within the policy's bounds and with its headroom kept.
Where a tenant can go nowhere else, it is refused with what stands against it, and
nothing is changed.

The same command again goes on with a drain that was cancelled or left tenants behind.
A tenant that can still be taken back (tenant move soaks) is waited for, and so is one
that another operation has. "shard undrain", or --cancel, takes the drain back.

Ctrl-C ends the watching; the drain goes on.`,
		Example:           "  tenant-ops shard drain s3 --dry-run\n  tenant-ops shard drain s3 --yes\n  tenant-ops shard drain s3 --show\n  tenant-ops shard undrain s3",
		Args:              oneArg("shard's ID"),
		ValidArgsFunction: completeShards,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkShard, args[0])
			if err != nil {
				return err
			}
			switch {
			case undo:
				return undrain(cmd, c, args[0], ch)
			case show:
				return showDrain(cmd, c, args[0])
			case dryRun:
				d, err := c.CheckDrain(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if err := printOne(cmd, d, drainDetails); err != nil {
					return err
				}
				next(cmd, "shard drain "+args[0])
				return nil
			}
			return drain(cmd, c, args[0], ch, yes, detach)
		},
	}
	f := cmd.Flags()
	yesFlag(cmd, &yes)
	f.BoolVar(&detach, "detach", false, "don't watch it")
	f.BoolVar(&dryRun, "dry-run", false, "say whether all tenants could go elsewhere, and change nothing")
	f.BoolVar(&show, "show", false, "say how far it is, and change nothing")
	f.BoolVar(&undo, "cancel", false, "take the drain back, as shard undrain does")
	cmd.MarkFlagsMutuallyExclusive("detach", "dry-run", "show", "cancel")
	ch.flags(cmd)
	ch.timeoutFlag(cmd, 30*24*time.Hour)
	return cmd
}

func drain(cmd *cobra.Command, c *client.Client, id string, ch change, yes, detach bool) error {
	before, err := c.ShardDrain(cmd.Context(), id)
	if err != nil {
		return err
	}
	if before.State != "draining" {
		what := fmt.Sprintf("This moves the %d tenants of shard %s elsewhere, and places none there any more.", before.Tenants, id)
		if err := confirm(cmd, yes, what, id, "the shard's ID"); err != nil {
			return err
		}
	}
	op, err := c.DrainShard(cmd.Context(), id, ch.Change)
	if err != nil {
		return err
	}
	if detach {
		if err := printOne(cmd, op, operationDetails); err != nil {
			return err
		}
		next(cmd, "shard drain "+id+" --show", "rebalance status --watch", "shard undrain "+id)
		return nil
	}
	ch.wait = true
	if err := watchRunOrLeave(cmd, c, op, ch, "emptying shard "+id); err != nil {
		return err
	}
	if outputFormat(cmd) != asTable {
		return nil
	}
	return showDrain(cmd, c, id)
}

var drainDetails = []column[api.ShardDrain]{
	{"shard", func(d api.ShardDrain) any { return d.Shard }},
	{"state", func(d api.ShardDrain) any { return d.State }},
	{"was", func(d api.ShardDrain) any { return d.Was }},
	{"drained by", func(d api.ShardDrain) any { return d.BegunBy }},
	{"reason", func(d api.ShardDrain) any { return d.Reason }},
	{"since", func(d api.ShardDrain) any { return d.BegunAt }},
	{"tenants", func(d api.ShardDrain) any { return d.Tenants }},
	{"deleted tenants", func(d api.ShardDrain) any { return d.Deleted }},
	{"other databases", func(d api.ShardDrain) any { return d.Leftovers }},
	{"kept until", func(d api.ShardDrain) any { return d.GoneAfter }},
	{"empty", func(d api.ShardDrain) any { return d.Empty }},
	{"run", func(d api.ShardDrain) any {
		if d.Run == nil {
			return ""
		}
		return d.Run.ID
	}},
}

// showDrain tells how far a drain is, and what is to be done next.
func showDrain(cmd *cobra.Command, c *client.Client, id string) error {
	d, err := c.ShardDrain(cmd.Context(), id)
	if err != nil {
		return err
	}
	if err := printOne(cmd, d, drainDetails); err != nil || outputFormat(cmd) != asTable {
		return err
	}
	out := cmd.OutOrStdout()
	switch {
	case d.State != "draining":
		next(cmd, "shard drain "+id)
	case d.Empty:
		fmt.Fprintf(out, "\nNothing is left on shard %s: its server can be switched off.\n", id)
	case d.Tenants == 0:
		fmt.Fprintf(out, "\nNo tenant lives on shard %s any more. Deleted tenants and leftovers of moves go by themselves; its server can be switched off once there are none.\n", id)
	case d.Run == nil:
		next(cmd, "shard drain "+id, "shard undrain "+id)
	default:
		next(cmd, "rebalance status --watch", "shard undrain "+id)
	}
	return nil
}

func shardUndrainCommand() *cobra.Command {
	var ch change
	cmd := &cobra.Command{
		Use:   "undrain ID",
		Short: "Take a drain back: the shard keeps the tenants that it still has, and is what it was before",
		Long: `Take a drain back: the shard is active or cordoned again, as it was before, and keeps
the tenants that it still has. Moves under way end by themselves; tenants that have
left stay where they are.`,
		Args:              oneArg("shard's ID"),
		ValidArgsFunction: completeShards,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkShard, args[0])
			if err != nil {
				return err
			}
			return undrain(cmd, c, args[0], ch)
		},
	}
	ch.flags(cmd)
	return cmd
}

func undrain(cmd *cobra.Command, c *client.Client, id string, ch change) error {
	s, err := c.UndrainShard(cmd.Context(), id, ch.Change)
	if err != nil {
		return err
	}
	if err := printOne(cmd, s, shardDetails); err != nil {
		return err
	}
	next(cmd, "rebalance plan", "shard list")
	return nil
}
