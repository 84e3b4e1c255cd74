package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/rebalance"
)

// rebalanceRunCommands are those of `rebalance` that change where tenants live.
func rebalanceRunCommands() []*cobra.Command {
	return []*cobra.Command{rebalanceApplyCommand(), rebalanceStatusCommand(),
		runVerbCommand("pause", "Have the run under way begin no more moves; those under way go on", (*client.Client).PauseRebalance, "rebalance resume", "rebalance cancel"),
		runVerbCommand("resume", "Have a paused run go on", (*client.Client).ResumeRebalance, "rebalance status"),
		rebalanceCancelCommand(), rebalanceAutoCommand()}
}

func rebalanceApplyCommand() *cobra.Command {
	var ch change
	cmd := &cobra.Command{
		Use:   "apply PLAN",
		Short: "Carry out a plan: move tenants, a few at a time, while they are served",
		Long: `Carry out a plan that "rebalance plan" made. One that was made for another state
of the fleet is refused with what differs, and nothing is changed.

Moves begin in the plan's order within the policy's bounds: so many at a time, in
all and at each shard, so many bytes an hour, none in quiet hours or at a tenant's
busy hours, none on a shard that is strained. What it waits for is shown. When the
fleet changes meanwhile, the rest is planned anew. A tenant that can't be moved stays,
the others go on, and the exit status is 1.

On a terminal the run is watched until it is over, elsewhere only with --wait.
Ctrl-C ends the watching; the run goes on.`,
		Example:           "  tenant-ops rebalance plan\n  tenant-ops rebalance apply 0190a0a0-0000-7000-8000-000000000000 --wait",
		Args:              oneArg("plan's ID"),
		ValidArgsFunction: completePlans,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			op, err := c.ApplyPlan(cmd.Context(), args[0], ch.Change)
			if err != nil {
				return err
			}
			return watchRunOrLeave(cmd, c, op, ch, "carrying out plan "+args[0], "rebalance status", "shard list")
		},
	}
	cmd.Flags().BoolVar(&ch.wait, "wait", false, "watch until it is over (the default on a terminal)")
	ch.flags(cmd)
	ch.timeoutFlag(cmd, 30*24*time.Hour)
	return cmd
}

func completePlans(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return complete(cmd, args, func(ctx context.Context, c *client.Client) []string {
		return names(c.RebalancePlans(ctx), prefix, func(p api.RebalancePlan) string { return p.ID })
	})
}

func runVerbCommand(verb, short string, do func(c *client.Client, ctx context.Context, ch client.Change) (api.Operation, error), after ...string) *cobra.Command {
	var ch change
	cmd := &cobra.Command{
		Use:   verb,
		Short: short,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			op, err := do(c, cmd.Context(), ch.Change)
			if err != nil {
				return err
			}
			if err := printOne(cmd, op, operationDetails); err != nil {
				return err
			}
			next(cmd, after...)
			return nil
		},
	}
	ch.flags(cmd)
	return cmd
}

func rebalanceCancelCommand() *cobra.Command {
	var in api.CancelRebalance
	var ch change
	cmd := &cobra.Command{
		Use:   "cancel",
		Short: "End the run under way: no move begins any more",
		Long: `End the run under way: no move begins any more. Those under way end by themselves;
with --now they are cancelled too, where their tenant has not arrived yet. Either
way each tenant is served at one place, and no shard is overfilled.

A shard that was being drained stays one that takes no tenants: "shard undrain" or
"shard drain" goes on from there.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			op, err := c.CancelRebalance(cmd.Context(), in, ch.Change)
			if err != nil {
				return err
			}
			if !ch.wait || op.Final() {
				if err := printOne(cmd, op, operationDetails); err != nil {
					return err
				}
				next(cmd, "rebalance status")
				return nil
			}
			op, err = await(cmd, c, op, ch.timeout)
			if op.State != "canceled" {
				return err
			}
			if err := printOne(cmd, op, operationDetails); err != nil || outputFormat(cmd) != asTable {
				return err
			}
			printReceipt(cmd.OutOrStdout(), op)
			return nil
		},
	}
	cmd.Flags().BoolVar(&in.AtOnce, "now", false, "cancel the moves under way too, where that is still possible")
	cmd.Flags().BoolVar(&ch.wait, "wait", true, "wait until the moves under way have ended")
	ch.flags(cmd)
	ch.timeoutFlag(cmd, time.Hour)
	return cmd
}

func rebalanceAutoCommand() *cobra.Command {
	var ch change
	cmd := &cobra.Command{
		Use:   "auto on|off",
		Short: "Have runs begin by themselves, or not",
		Long: `Have runs begin by themselves, or not: when a shard is added, carries too much, or
is being drained by nobody, when a tenant has become hot, and when a tenant may not
stay where it is, since its needs or its shard's region, class or labels changed.

The policy's thresholds, cool-down and quiet hours hold. "rebalance status" tells
what it saw and what it waits for. Switching it off ends no run.`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"on", "off"},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			st, err := c.SetAutoMode(cmd.Context(), args[0] == "on", ch.Change)
			if err != nil {
				return err
			}
			if err := printStatus(cmd, st); err != nil {
				return err
			}
			next(cmd, "rebalance status")
			return nil
		},
	}
	ch.flags(cmd)
	return cmd
}

func rebalanceStatusCommand() *cobra.Command {
	var watch, moves bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the run under way or the last one, its moves, and whether runs begin by themselves",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			st, err := c.RebalanceStatus(cmd.Context())
			if err != nil {
				return err
			}
			switch {
			case watch && st.Run != nil && !st.Run.Operation.Final():
				return watchRun(cmd, c, st.Run.Operation, timeout)
			case moves && st.Run != nil:
				return printList(cmd, c.RebalanceMoves(cmd.Context(), st.Run.Operation.ID), 0, runMoveColumns)
			}
			return printStatus(cmd, st)
		},
	}
	cmd.Flags().BoolVar(&watch, "watch", false, "watch the run until it is over")
	cmd.Flags().BoolVar(&moves, "moves", false, "list all moves of the run instead")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*24*time.Hour, "longest watch; the run goes on after it")
	return cmd
}

var runMoveColumns = []column[api.RebalanceMove]{
	{"n", func(m api.RebalanceMove) any { return m.N }},
	{"tenant", func(m api.RebalanceMove) any { return m.Tenant }},
	{"from", func(m api.RebalanceMove) any { return m.From }},
	{"to", func(m api.RebalanceMove) any { return m.To }},
	{"bytes", func(m api.RebalanceMove) any { return size(int64(m.Bytes)) }},
	{"state", func(m api.RebalanceMove) any { return m.State }},
	{"took", func(m api.RebalanceMove) any {
		if m.BegunAt == nil || m.EndedAt == nil {
			return ""
		}
		return took(m.EndedAt.Sub(*m.BegunAt))
	}},
	{"progress", func(m api.RebalanceMove) any { return moveProgress(m) }},
	{"why", func(m api.RebalanceMove) any {
		if m.Error != "" {
			return m.Error
		}
		return m.Why
	}},
}

func moveProgress(m api.RebalanceMove) string {
	if m.Progress == nil {
		return ""
	}
	s := fmt.Sprintf("%s %.0f%%", m.Progress.Phase, m.Progress.Percent)
	if m.Progress.Waiting != "" {
		s += ", waiting for " + m.Progress.Waiting
	}
	return s
}

func printStatus(cmd *cobra.Command, st api.RebalanceStatus) error {
	out := cmd.OutOrStdout()
	switch f := outputFormat(cmd); f {
	case asJSON, asYAML:
		return printDocument(out, f, st)
	case asCSV:
		if st.Run == nil {
			return nil
		}
		return printCSV(out, st.Run.Running, runMoveColumns)
	}
	t := newTable(out)
	row := func(name, value string) {
		if value != "" {
			t.AppendRow([]any{name, clean(value)})
		}
	}
	row("auto", autoText(st.Auto))
	if st.Run == nil {
		row("run", "there was none yet")
		t.Render()
		next(cmd, "rebalance plan")
		return nil
	}
	r := st.Run
	row("run", r.Operation.ID)
	row("for", goalText(*r))
	row("state", runState(r.Operation))
	if st.Paused != nil {
		row("paused", forPeople(st.Paused.At)+" by "+st.Paused.By+because(st.Paused.Reason))
	}
	row("moves", fmt.Sprintf("%d moved, %d under way, %d left, %d failed, %d could not begin", r.Moved, r.Moving, r.Left, r.Failed, r.GivenUp))
	row("bytes", fmt.Sprintf("%s moved, %s left", size(int64(r.BytesMoved)), size(int64(r.BytesLeft))))
	if !r.Operation.Final() {
		row("percent", fmt.Sprintf("%.0f", r.Operation.Progress.Percent))
		row("waiting for", r.Wait)
	}
	row("planned anew", r.Replanned)
	row("error", r.Operation.Error)
	t.Render()
	if len(r.Running) > 0 {
		fmt.Fprintln(out)
		if err := printItems(out, asTable, r.Running, runMoveColumns); err != nil {
			return err
		}
	}
	for _, ref := range r.Refused {
		fmt.Fprintf(out, "%s can't be moved: %s: %s\n", ref.Tenant, clean(ref.Constraint), clean(ref.Detail))
	}
	if r.Operation.Final() {
		printReceipt(out, r.Operation)
		return nil
	}
	next(cmd, "rebalance status --watch", "rebalance pause", "rebalance cancel")
	return nil
}

// runState says how a run is: it rests most of the time, which is nobody's concern.
func runState(op api.Operation) string {
	switch {
	case op.State == "undoing" || op.CancelRequested && !op.Final():
		return "ending: moves under way are waited for"
	case !op.Final():
		return "under way"
	}
	return op.State
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

func autoText(a api.AutoMode) string {
	s := "off"
	if a.On {
		s = "on"
	}
	if a.At != nil {
		s += ", since " + forPeople(*a.At) + " by " + a.By + because(a.Reason)
	}
	if a.Says != "" {
		s += "; " + a.Says
	}
	return s
}

func goalText(r api.RebalanceRun) string {
	switch {
	case r.Plan != "":
		return "plan " + r.Plan
	case r.Trigger != "":
		return r.Trigger + " (by itself)"
	case len(r.Drain) > 0:
		ids := make([]string, len(r.Drain))
		for i, id := range r.Drain {
			ids[i] = string(id)
		}
		return "emptying " + strings.Join(ids, ", ")
	}
	return "balance"
}

// watchRunOrLeave is watchOrLeave for a run.
func watchRunOrLeave(cmd *cobra.Command, c *client.Client, op api.Operation, ch change, saying string, after ...string) error {
	if !ch.wait && (cmd.Flags().Changed("wait") || !isTerminal(cmd.OutOrStdout())) {
		if err := printOne(cmd, op, operationDetails); err != nil {
			return err
		}
		next(cmd, "rebalance status --watch", "rebalance pause", "rebalance cancel")
		return nil
	}
	if outputFormat(cmd) == asTable {
		fmt.Fprintf(cmd.OutOrStdout(), "%s: run %s\n", saying, op.ID)
	}
	if err := watchRun(cmd, c, op, ch.timeout); err != nil {
		return err
	}
	next(cmd, after...)
	return nil
}

// watchRun is watchToEnd for a run: beside the whole, each move gets a line when it has ended.
func watchRun(cmd *cobra.Command, c *client.Client, op api.Operation, timeout time.Duration) error {
	see := func(api.Operation) error { return nil }
	if outputFormat(cmd) == asTable {
		p := newProgress(cmd.OutOrStdout())
		defer p.close()
		said := map[int]bool{}
		see = func(op api.Operation) error {
			showMoves(cmd.Context(), c, op.ID, p, said)
			p.show(op)
			return nil
		}
	}
	op, err := follow(cmd, c, op, timeout, see)
	if !op.Final() {
		return err
	}
	if outputFormat(cmd) != asTable {
		return errors.Join(printOne(cmd, op, operationDetails), err)
	}
	printReceipt(cmd.OutOrStdout(), op)
	return err
}

// showMost bounds the moves that are shown one by one: of more, the whole is what one wants to see.
const showMost = 2000

func showMoves(ctx context.Context, c *client.Client, id string, p *progress, said map[int]bool) {
	run, err := c.RebalanceRun(ctx, id)
	if ended := run.Moved + run.Failed + run.GivenUp; err != nil || ended == len(said) || ended+run.Left > showMost {
		return
	}
	for m, err := range c.RebalanceMoves(ctx, id) {
		if err != nil {
			return // the next look makes it good
		}
		if m.EndedAt == nil || said[m.N] {
			continue
		}
		said[m.N] = true
		p.line(endedMove(m))
	}
}

func endedMove(m api.RebalanceMove) string {
	what := fmt.Sprintf("%s from %s to %s", m.Tenant, m.From, m.To)
	if m.State == "moved" && m.BegunAt != nil {
		return fmt.Sprintf("✓ %-40s %8s  %s", clean(what), took(m.EndedAt.Sub(*m.BegunAt)), size(int64(m.Bytes)))
	}
	return fmt.Sprintf("✗ %-40s %8s  %s", clean(what), "", clean(m.Error))
}

// printRun prints what a run has come to.
func printRun(out io.Writer, r rebalance.Receipt) {
	fmt.Fprintln(out, "\nreceipt")
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "  %-13s %s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	line("moved", "%d tenants, %s", r.Moved, size(int64(r.Bytes)))
	if r.Left > 0 {
		line("left", "%d moves were not begun", r.Left)
	}
	for _, s := range r.Stayed {
		where := ""
		if s.Shard != "" {
			where = " on " + string(s.Shard)
		}
		line("stayed", "%s%s: %s", s.Tenant, where, s.Why)
	}
	for _, id := range r.Drained {
		line("drained", "no tenant lives on %s any more", id)
	}
}
