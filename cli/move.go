package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

func tenantMoveCommand() *cobra.Command {
	var in api.MoveTenant
	var ch change
	var pause time.Duration
	cmd := &cobra.Command{
		Use:   "move ID --to SHARD",
		Short: "Move a tenant to another shard while it is served",
		Long: `Move a tenant to another shard while its clients go on reading and writing.

--max-pause is a contract: a cutover that would keep clients waiting for longer
is given up with nothing changed, and tried again. --dry-run walks the same steps,
changes nothing, and says what each would do or why the move would be refused.

The copy slows down by itself while a server of either side, or a standby of
one, has trouble keeping up, and says so; --max-rate bounds it besides.

On a terminal the move is watched until it is over, elsewhere only with --wait.
Ctrl-C ends the watching; the move goes on.`,
		Example:           "  tenant-ops tenant move acme --to s2\n  tenant-ops tenant move acme --to s2 --dry-run\n  tenant-ops tenant move acme --to s2 --max-pause 200ms --wait",
		Args:              oneArg("tenant's ID"),
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTenant(cmd, args[0]); err != nil {
				return err
			}
			if err := checkShard(cmd, in.To); err != nil {
				return err
			}
			in.MaxPauseMS = int(pause / time.Millisecond)
			if pause < 10*time.Millisecond || pause > time.Minute || pause%time.Millisecond != 0 {
				return &usageError{cmd.CommandPath(), fmt.Errorf("--max-pause %s: want whole milliseconds from 10ms to 1m", pause)}
			}
			if in.DryRun {
				return planMove(cmd, args[0], in)
			}
			return moveTenant(cmd, args[0], in, ch)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.To, "to", "", "the shard to move to")
	f.DurationVar(&pause, "max-pause", 500*time.Millisecond, "longest pause that a client may see")
	f.StringVar(&in.DDL, "ddl", "refuse", "changes of the tenant's schema meanwhile: refuse, or wait until shortly before the cutover")
	f.Var(sizeFlag{&in.MaxBytesPerS}, "max-rate", "copy no more than this a second over the wire, like 50MB; 0: as much as the servers bear")
	f.BoolVar(&in.DryRun, "dry-run", false, "say what would be done, and change nothing")
	f.BoolVar(&ch.wait, "wait", false, "watch until it is over (the default on a terminal)")
	ch.flags(cmd)
	ch.timeoutFlag(cmd, 24*time.Hour)
	mustGive(cmd, "to")
	completeFlag(cmd, "to", completeShards)
	return cmd
}

func moveTenant(cmd *cobra.Command, id string, in api.MoveTenant, ch change) error {
	c, err := connect(cmd)
	if err != nil {
		return err
	}
	op, err := c.MoveTenant(cmd.Context(), id, in, ch.Change)
	if err != nil {
		return err
	}
	if !ch.wait && (cmd.Flags().Changed("wait") || !isTerminal(cmd.OutOrStdout())) {
		if err := printOne(cmd, op, operationDetails); err != nil {
			return err
		}
		next(cmd, "op watch "+op.ID, "op cancel "+op.ID)
		return nil
	}
	if outputFormat(cmd) == asTable {
		fmt.Fprintf(cmd.OutOrStdout(), "moving %s to %s: operation %s\n", id, in.To, op.ID)
	}
	if err := watchToEnd(cmd, c, op, ch.timeout); err != nil {
		return err
	}
	next(cmd, "tenant show "+id)
	return nil
}

func planMove(cmd *cobra.Command, id string, in api.MoveTenant) error {
	c, err := connect(cmd)
	if err != nil {
		return err
	}
	plan, err := c.PlanMove(cmd.Context(), id, in)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	switch f := outputFormat(cmd); f {
	case asJSON, asYAML:
		err = printDocument(out, f, plan)
	default:
		err = printItems(out, f, plan.Steps, []column[api.PlannedStep]{
			{"step", func(s api.PlannedStep) any { return s.Step }},
			{"what it would do", func(s api.PlannedStep) any {
				does := s.Does
				if does == "" {
					does = s.Title
				}
				if s.NoReturn {
					does += " (point of no return)"
				}
				return does
			}},
		})
	}
	if err != nil {
		return err
	}
	if !plan.Feasible {
		return &statusError{exitRefused, "change what the message names and try again; nothing was changed", errors.New(plan.Refusal)}
	}
	next(cmd, "tenant move "+id+" --to "+in.To)
	return nil
}
