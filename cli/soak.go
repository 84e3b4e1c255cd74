package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

const (
	leastPause  = 10 * time.Millisecond
	longestSoak = 30 * 24 * time.Hour
)

// checkPause takes the flag --max-pause.
func checkPause(cmd *cobra.Command, pause time.Duration) (ms int, err error) {
	if pause < leastPause || pause > time.Minute || pause%time.Millisecond != 0 {
		return 0, &usageError{cmd.CommandPath(), fmt.Errorf("--max-pause %s: want whole milliseconds from 10ms to 1m", pause)}
	}
	return int(pause / time.Millisecond), nil
}

// checkSoak takes the flag --soak.
func checkSoak(cmd *cobra.Command, soak time.Duration) (seconds int, err error) {
	if soak < 0 || soak > longestSoak || soak%time.Second != 0 {
		return 0, &usageError{cmd.CommandPath(), fmt.Errorf("--soak %s: want whole seconds up to 720h", soak)}
	}
	return int(soak / time.Second), nil
}

// printPlan prints what a dry run found, and fails if it would be refused.
func printPlan(cmd *cobra.Command, plan api.Plan, instead string) error {
	out := cmd.OutOrStdout()
	var err error
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
	next(cmd, instead)
	return nil
}

// watchOrLeave watches an operation that was just started if that is wanted,
// or on a terminal, and else says how to.
func watchOrLeave(cmd *cobra.Command, c *client.Client, op api.Operation, ch change, saying string, after ...string) error {
	if !ch.wait && (cmd.Flags().Changed("wait") || !isTerminal(cmd.OutOrStdout())) {
		if err := printOne(cmd, op, operationDetails); err != nil {
			return err
		}
		next(cmd, "op watch "+op.ID, "op cancel "+op.ID)
		return nil
	}
	if outputFormat(cmd) == asTable {
		fmt.Fprintf(cmd.OutOrStdout(), "%s: operation %s\n", saying, op.ID)
	}
	if err := watchToEnd(cmd, c, op, ch.timeout); err != nil {
		return err
	}
	next(cmd, after...)
	return nil
}

func moveReverseCommand() *cobra.Command {
	var in api.ReverseMove
	var ch change
	var pause, soak time.Duration
	cmd := &cobra.Command{
		Use:   "reverse OP",
		Short: "Take a tenant back to where a move took it from, with all that was written since",
		Long: `Take a tenant back to where a move took it from, with all that was written since,
while its clients go on reading and writing. OP is the move's operation; it must
have been made with --soak, and its soak not be over: see ` + "`tenant-ops tenant move soaks`" + `.

Nothing is copied: the old place was kept in step. The pause is that of a move,
and --max-pause and --cutover say the same of it; the soak does not end while it waits.`,
		Example:           "  tenant-ops tenant move reverse 0190a0a0-0000-7000-8000-000000000000\n  tenant-ops tenant move reverse 0190a0a0-0000-7000-8000-000000000000 --soak 30m",
		Args:              oneArg("operation's ID"),
		ValidArgsFunction: completeOperations,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if in.MaxPauseMS, err = checkPause(cmd, pause); err != nil {
				return err
			}
			if in.SoakSeconds, err = checkSoak(cmd, soak); err != nil {
				return err
			}
			if in.Cutover, err = checkCutover(cmd, in.Cutover); err != nil {
				return err
			}
			if !cmd.Flags().Changed("cutover") {
				in.Cutover = "" // a control plane that is older would not know it
			}
			c, err := connectFor(cmd, checkOperation, args[0])
			if err != nil {
				return err
			}
			if in.DryRun {
				plan, err := c.PlanReverse(cmd.Context(), args[0], in)
				if err != nil {
					return err
				}
				return printPlan(cmd, plan, "tenant move reverse "+args[0])
			}
			op, err := c.ReverseMove(cmd.Context(), args[0], in, ch.Change)
			if err != nil {
				return err
			}
			return watchOrLeave(cmd, c, op, ch, fmt.Sprintf("taking %s back", op.Tenant), afterMove(string(op.Tenant), op.ID, in.SoakSeconds)...)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&pause, "max-pause", 500*time.Millisecond, "longest pause that a client may see")
	f.DurationVar(&soak, "soak", 0, "keep the place that is left in step for so long, in its turn; 0: not at all")
	f.StringVar(&in.Cutover, "cutover", api.CutoverAuto, "when to cut over: auto (as soon as it can), manual, or a time like 2026-11-24T03:00:00Z")
	f.BoolVar(&in.DryRun, "dry-run", false, "say what would be done, and change nothing")
	f.BoolVar(&ch.wait, "wait", false, "watch until it is over (the default on a terminal)")
	ch.flags(cmd)
	ch.timeoutFlag(cmd, 24*time.Hour)
	return cmd
}

// afterMove are the commands that come next.
func afterMove(tenant, id string, soakSeconds int) []string {
	if soakSeconds > 0 {
		return []string{"tenant move reverse " + id, "tenant move complete " + id}
	}
	return []string{"tenant show " + tenant}
}

func moveCompleteCommand() *cobra.Command {
	var ch change
	cmd := &cobra.Command{
		Use:               "complete OP",
		Short:             "End the soak of a move: the tenant stays, and there is no way back",
		Long:              "End the soak of a move: the tenant stays where it is, the link to its old place is\ntaken away, and the old place is dropped after its grace. OP is the move's operation.",
		Example:           "  tenant-ops tenant move complete 0190a0a0-0000-7000-8000-000000000000",
		Args:              oneArg("operation's ID"),
		ValidArgsFunction: completeOperations,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkOperation, args[0])
			if err != nil {
				return err
			}
			op, err := c.CompleteMove(cmd.Context(), args[0], ch.Change)
			if err != nil {
				return err
			}
			return watchOrLeave(cmd, c, op, ch, "ending the soak", "tenant show "+string(op.Tenant))
		},
	}
	cmd.Flags().BoolVar(&ch.wait, "wait", false, "watch until it is over (the default on a terminal)")
	ch.flags(cmd)
	ch.timeoutFlag(cmd, time.Hour)
	return cmd
}

func moveSoaksCommand() *cobra.Command {
	var f client.SoakFilter
	var limit int
	var all bool
	cmd := &cobra.Command{
		Use:   "soaks",
		Short: "List the moves that can be taken back",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			f.Live = !all
			return printList(cmd, c.Soaks(cmd.Context(), f), limit, soakColumns)
		},
	}
	cmd.Flags().StringVar(&f.Tenant, "tenant", "", "only those of this tenant")
	cmd.Flags().BoolVar(&all, "all", false, "those that have ended as well")
	cmd.Flags().IntVar(&limit, "limit", 50, "at most this many; 0: all")
	completeFlag(cmd, "tenant", completeTenants)
	return cmd
}

var soakColumns = []column[api.Soak]{
	{"operation", func(s api.Soak) any { return s.Operation }},
	{"tenant", func(s api.Soak) any { return string(s.Tenant) }},
	{"home", func(s api.Soak) any { return string(s.Home) }},
	{"back to", func(s api.Soak) any { return string(s.Old) }},
	{"state", func(s api.Soak) any { return s.State }},
	{"until", func(s api.Soak) any { return s.Until }},
	{"log kept", func(s api.Soak) any { return size(s.KeptBytes) }},
	{"note", func(s api.Soak) any {
		if s.Reason != "" {
			return s.Reason
		}
		return s.Trouble
	}},
}
