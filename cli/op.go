package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

func opCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "op",
		Aliases: []string{"operation", "operations", "ops"},
		Short:   "Look at operations, watch and cancel them",
		GroupID: "operate",
	}
	cmd.AddCommand(opListCommand(), opShowCommand(), opWatchCommand(), opCutoverCommand(), opPaceCommand(), opVerifyCommand(), opCancelCommand())
	return cmd
}

var operationColumns = []column[api.Operation]{
	{"id", func(o api.Operation) any { return o.ID }},
	{"kind", func(o api.Operation) any { return o.Kind }},
	{"tenant", func(o api.Operation) any { return o.Tenant }},
	{"state", func(o api.Operation) any { return o.State }},
	{"step", func(o api.Operation) any {
		if o.Final() {
			return ""
		}
		return o.Step
	}},
	{"percent", func(o api.Operation) any { return fmt.Sprintf("%.0f", percentOf(o)) }},
	{"by", func(o api.Operation) any { return o.CreatedBy }},
	{"created", func(o api.Operation) any { return o.CreatedAt }},
	{"finished", func(o api.Operation) any { return o.FinishedAt }},
}

func percentOf(o api.Operation) float64 {
	if o.State == "done" {
		return 100
	}
	return o.Progress.Percent
}

var operationDetails = append(append([]column[api.Operation]{}, operationColumns...),
	column[api.Operation]{"reason", func(o api.Operation) any { return o.Reason }},
	column[api.Operation]{"pace asked for", askedOf},
	column[api.Operation]{"waiting for", func(o api.Operation) any { return o.Progress.Waiting }},
	column[api.Operation]{"error", func(o api.Operation) any { return o.Error }},
	column[api.Operation]{"worker", func(o api.Operation) any { return o.Worker }},
)

func opListCommand() *cobra.Command {
	var f client.OperationFilter
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List operations, newest first",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			return printList(cmd, c.Operations(cmd.Context(), f), limit, operationColumns)
		},
	}
	cmd.Flags().StringVar(&f.Tenant, "tenant", "", "only those of this tenant")
	cmd.Flags().StringVar(&f.Kind, "kind", "", "only those of this kind, like move")
	cmd.Flags().StringSliceVar(&f.States, "state", nil, "only those in these states: pending, running, undoing, done, failed, canceled")
	cmd.Flags().BoolVar(&f.Unfinished, "unfinished", false, "only those that are not over")
	cmd.Flags().IntVar(&limit, "limit", 50, "at most this many; 0: all")
	completeFlag(cmd, "tenant", completeTenants)
	return cmd
}

func opShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "show ID",
		Short:             "Show an operation with its journal and receipt",
		Args:              oneArg("operation's ID"),
		ValidArgsFunction: completeOperations,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, op, err := namedOperation(cmd, args[0])
			if err != nil {
				return err
			}
			return printOperation(cmd, op)
		},
	}
}

// namedOperation reads the operation with the ID that the command line gives.
func namedOperation(cmd *cobra.Command, id string) (*client.Client, api.Operation, error) {
	c, err := connectFor(cmd, checkOperation, id)
	if err != nil {
		return nil, api.Operation{}, err
	}
	op, err := c.Operation(cmd.Context(), id)
	return c, op, err
}

// printOperation prints one operation; for people with its journal and receipt.
func printOperation(cmd *cobra.Command, op api.Operation) error {
	if err := printOne(cmd, op, operationDetails); err != nil || outputFormat(cmd) != asTable {
		return err
	}
	out := cmd.OutOrStdout()
	if len(op.Steps) > 0 {
		fmt.Fprintln(out)
		err := printItems(out, asTable, op.Steps, []column[api.Step]{
			{"step", func(s api.Step) any {
				if s.Undo {
					return "undo " + s.Step
				}
				return s.Step
			}},
			{"try", func(s api.Step) any { return s.Attempt }},
			{"started", func(s api.Step) any { return s.StartedAt }},
			{"took", func(s api.Step) any {
				if s.FinishedAt == nil {
					return "under way"
				}
				return took(s.FinishedAt.Sub(s.StartedAt))
			}},
			{"error", func(s api.Step) any { return s.Error }},
		})
		if err != nil {
			return err
		}
	}
	printReceipt(out, op)
	return nil
}

func took(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func opWatchCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:               "watch ID",
		Short:             "Watch an operation until it is over",
		Long:              "Watch an operation until it is over. Ctrl-C ends the watching; the operation goes on.\nThe exit status is the operation's: 0 when it succeeded, 1 when it failed or was cancelled.",
		Args:              oneArg("operation's ID"),
		ValidArgsFunction: completeOperations,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, op, err := namedOperation(cmd, args[0])
			if err != nil {
				return err
			}
			return watchToEnd(cmd, c, op, timeout)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 24*time.Hour, "longest wait; the operation goes on after it")
	return cmd
}

func opCancelCommand() *cobra.Command {
	var ch change
	cmd := &cobra.Command{
		Use:               "cancel ID",
		Short:             "Ask to end an operation; what it did is undone",
		Args:              oneArg("operation's ID"),
		ValidArgsFunction: completeOperations,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkOperation, args[0])
			if err != nil {
				return err
			}
			op, err := c.CancelOperation(cmd.Context(), args[0], ch.Change)
			if err != nil {
				return err
			}
			if err := printOne(cmd, op, operationDetails); err != nil {
				return err
			}
			if !op.Final() {
				next(cmd, "op watch "+op.ID)
			}
			return nil
		},
	}
	ch.flags(cmd)
	return cmd
}

func checkOperation(cmd *cobra.Command, id string) error {
	if _, err := uuid.Parse(id); err != nil || len(id) != 36 {
		return &usageError{cmd.CommandPath(), errors.New("an operation's ID is a UUID; `tenant-ops op list` shows them")}
	}
	return nil
}
