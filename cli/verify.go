package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/move/diff"
)

func opVerifyCommand() *cobra.Command {
	var in api.VerifyMove
	var ch change
	var status bool
	cmd := &cobra.Command{
		Use:   "verify OP",
		Short: "Compare both sides of a move, row by row, while the tenant is served",
		Long: `Compare both sides of a move: every row, and indexes, constraints, grants, policies,
comments, extensions, settings, sequences and all else that is in both databases.

It runs before the move's cutover, and, while the move soaks, the other way round:
the old place is compared with the new. Clients go on meanwhile, and what is only
late is no difference. It is an operation of its own: it goes on when its worker
dies, can be watched and cancelled, and is kept; --status shows the latest one.

The exit status is 0 if both sides are equal, and 1 if they differ.`,
		Example: "  tenant-ops op verify 0190a0a0-0000-7000-8000-000000000000\n  tenant-ops op verify 0190a0a0-0000-7000-8000-000000000000 --sample 5 --max-rate 20MB\n" +
			"  tenant-ops op verify 0190a0a0-0000-7000-8000-000000000000 --status -o json",
		Args:              oneArg("operation's ID"),
		ValidArgsFunction: completeOperations,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkOperation, args[0])
			if err != nil {
				return err
			}
			if status {
				return verifyStatus(cmd, c, args[0])
			}
			op, err := c.VerifyMove(cmd.Context(), args[0], in, ch.Change)
			if err != nil {
				return err
			}
			if !ch.wait {
				if err := printOne(cmd, op, operationDetails); err != nil {
					return err
				}
				next(cmd, "op verify "+args[0]+" --status", "op watch "+op.ID, "op cancel "+op.ID)
				return nil
			}
			return verifyToEnd(cmd, c, op, ch.timeout)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&in.OnlyPKs, "only-pks", false, "of rows that differ tell the keys and nothing else")
	f.Float64Var(&in.Sample, "sample", 0, "compare only so many percent of the rows (0: all)")
	f.Var(sizeFlag{&in.MaxBytesPerS}, "max-rate", "read no more than this a second at each side, like 20MB; 0: rest as long as it works")
	f.BoolVar(&status, "status", false, "start nothing; show the latest comparison of this move")
	f.BoolVar(&ch.wait, "wait", true, "watch until it is over")
	ch.flags(cmd)
	ch.timeoutFlag(cmd, 24*time.Hour)
	return cmd
}

// verifyToEnd watches a comparison, and fails if the sides differ.
func verifyToEnd(cmd *cobra.Command, c *client.Client, op api.Operation, timeout time.Duration) error {
	if err := watchToEnd(cmd, c, op, timeout); err != nil {
		return err
	}
	op, err := c.Operation(cmd.Context(), op.ID)
	if err != nil {
		return err
	}
	return compared(cmd, op)
}

func verifyStatus(cmd *cobra.Command, c *client.Client, of string) error {
	for found, err := range c.Operations(cmd.Context(), client.OperationFilter{Kind: move.KindVerify, Of: of}) {
		if err != nil {
			return err
		}
		op, err := c.Operation(cmd.Context(), found.ID)
		if err != nil {
			return err
		}
		if err := printOperation(cmd, op); err != nil {
			return err
		}
		return compared(cmd, op)
	}
	if _, err := c.Operation(cmd.Context(), of); err != nil {
		return err
	}
	return &statusError{exitNotFound, "start one with `tenant-ops op verify " + of + dirFlag(cmd) + "`", fmt.Errorf("operation %s was never compared", of)}
}

// compared gives the exit status that a comparison's outcome is.
func compared(cmd *cobra.Command, op api.Operation) error {
	var r move.Comparison
	_ = json.Unmarshal(op.Receipt, &r) // none yet, or one of another kind: nothing was found
	switch {
	case r.Differs():
		return &statusError{exitFailed, "docs/operators/runbooks.md says what to do about it", errors.New(outcome(r))}
	case !op.Final():
		return &statusError{exitUnavailable, "watch it with `tenant-ops op watch " + op.ID + dirFlag(cmd) + "`", errors.New("the comparison is not over; so far nothing differs")}
	case op.State != "done":
		return failure(cmd, op)
	}
	return nil
}

func outcome(r move.Comparison) string {
	if !r.Differs() {
		return fmt.Sprintf("%s and %s are equal", r.Serving, r.Follower)
	}
	var in []string
	if n := len(r.Differ); n > 0 {
		in = append(in, fmt.Sprintf("the rows of %d of %d tables", n, r.Tables))
	}
	if n := r.DifferentObjects; n > 0 {
		in = append(in, fmt.Sprintf("%d other objects", n))
	}
	return fmt.Sprintf("%s and %s differ in %s", r.Serving, r.Follower, strings.Join(in, " and "))
}

// printComparison prints what a comparison found, in words.
func printComparison(out io.Writer, r move.Comparison) {
	fmt.Fprintln(out, "\ncomparison")
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "  %-13s %s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	sample := ""
	if r.Sample < 100 {
		sample = fmt.Sprintf(", a sample of %g %%", r.Sample)
	}
	line("compared", "%d rows (%s) in %d tables%s: %s serves %s, %s follows", r.Rows, size(r.Bytes), r.Tables, sample, r.Serving, r.Tenant, r.Follower)
	if r.Outcome == move.NotVerified {
		line("outcome", "not over yet")
	} else {
		line("outcome", "%s", outcome(r))
	}
	for _, t := range r.Differ {
		line("table", "%s: %s", t.Name, counts(t))
		for _, d := range t.Rows {
			what := d.Kind
			if d.Count > 1 {
				what += fmt.Sprintf(" %d times", d.Count)
			}
			if len(d.Columns) > 0 {
				what += " in " + strings.Join(d.Columns, ", ")
			}
			line("", "%s %s", d.Key, what)
		}
	}
	for _, o := range r.Objects {
		line(o.Kind, "%s", strings.TrimPrefix(o.String(), o.Kind+" "))
	}
	if more := r.DifferentObjects - len(r.Objects); more > 0 {
		line("", "and %d more", more)
	}
}

// counts sums a table up.
func counts(t diff.Table) string {
	if t.Note != "" {
		return t.Note
	}
	var parts []string
	for _, c := range []struct {
		n    int64
		what string
	}{{t.Missing, "missing"}, {t.Extra, "extra"}, {t.Changed, "changed"}, {t.Unproven, "that never stood still"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	s := strings.Join(parts, ", ")
	if t.Stopped {
		s += "; there are more, the rest was not compared"
	}
	return s
}
