package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/rebalance"
)

// await waits for an operation without showing anything but what it waits for,
// and fails unless it succeeded.
func await(cmd *cobra.Command, c *client.Client, op api.Operation, timeout time.Duration) (api.Operation, error) {
	return follow(cmd, c, op, timeout, func(api.Operation) error { return nil })
}

// watchToEnd shows an operation's progress until it is over, then its receipt,
// and fails unless it succeeded.
func watchToEnd(cmd *cobra.Command, c *client.Client, op api.Operation, timeout time.Duration) error {
	see := func(api.Operation) error { return nil }
	if outputFormat(cmd) == asTable {
		p := newProgress(cmd.OutOrStdout())
		defer p.close()
		see = func(op api.Operation) error { p.show(op); return nil }
	}
	op, err := follow(cmd, c, op, timeout, see)
	if !op.Final() {
		return err
	}
	if f := outputFormat(cmd); f != asTable {
		return errors.Join(printOne(cmd, op, operationDetails), err)
	}
	printReceipt(cmd.OutOrStdout(), op)
	return err
}

// follow watches an operation until it is over. Its error is nil only if the
// operation succeeded; the operation comes back as it was last seen.
func follow(cmd *cobra.Command, c *client.Client, op api.Operation, timeout time.Duration, see func(api.Operation) error) (api.Operation, error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	last, err := c.Watch(ctx, op.ID, see)
	if last.ID != "" {
		op = last
	}
	switch {
	case cmd.Context().Err() != nil:
		fmt.Fprintf(cmd.ErrOrStderr(), "\nno longer watching; operation %s goes on\n", op.ID)
		goesOn(cmd, op)
		return op, &silentError{exitInterrupted}
	case errors.Is(err, context.DeadlineExceeded):
		return op, &statusError{exitUnavailable, "watch on with `tenant-ops op watch " + op.ID + dirFlag(cmd) + "`",
			fmt.Errorf("operation %s is not over after %s; it goes on", op.ID, timeout)}
	case err != nil:
		return op, err
	case op.State == "done":
		return op, nil
	}
	return op, failure(cmd, op)
}

func goesOn(cmd *cobra.Command, op api.Operation) {
	for _, verb := range []string{"watch", "cancel"} {
		fmt.Fprintln(cmd.ErrOrStderr(), "next:", "tenant-ops op "+verb+" "+op.ID+dirFlag(cmd))
	}
}

// failure says how an operation ended that did not succeed.
func failure(cmd *cobra.Command, op api.Operation) error {
	what := op.Kind
	if op.Tenant != "" {
		what += " of " + string(op.Tenant)
	}
	hint := "what it did was undone; `tenant-ops op show " + op.ID + dirFlag(cmd) + "` has its journal"
	if op.Kind == rebalance.KindRun {
		hint = "tenants that were moved stay where they are now; `tenant-ops rebalance status --moves" + dirFlag(cmd) + "` lists each"
	}
	if op.State == "canceled" {
		return &statusError{exitFailed, hint, fmt.Errorf("%s was cancelled", what)}
	}
	return &statusError{exitFailed, hint, fmt.Errorf("%s failed: %s", what, op.Error)}
}
