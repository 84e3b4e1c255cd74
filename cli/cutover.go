package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// checkCutover takes the flag --cutover: auto, manual, or a time, after the word at if one likes.
func checkCutover(cmd *cobra.Command, when string) (string, error) {
	if when == api.CutoverAuto || when == api.CutoverManual {
		return when, nil
	}
	at, err := time.Parse(time.RFC3339, strings.TrimPrefix(when, "at "))
	if err != nil {
		return "", &usageError{cmd.CommandPath(), fmt.Errorf("--cutover %q: want auto, manual, or a time like %s", when, "2026-11-24T03:00:00Z")}
	}
	return at.UTC().Format(time.RFC3339), nil
}

func opCutoverCommand() *cobra.Command {
	var ch change
	cmd := &cobra.Command{
		Use:   "cutover ID",
		Short: "Have a move cut over that waits for it",
		Long: `Have a move cut over that was started with --cutover manual, or before the time
that it was started with. A move that is not caught up yet will then not wait.`,
		Args:              oneArg("operation's ID"),
		ValidArgsFunction: completeOperations,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkOperation, args[0])
			if err != nil {
				return err
			}
			op, err := c.CutOver(cmd.Context(), args[0], ch.Change)
			if err != nil {
				return err
			}
			return watchOrLeave(cmd, c, op, ch, fmt.Sprintf("cutting %s over", op.Tenant), "tenant show "+string(op.Tenant))
		},
	}
	cmd.Flags().BoolVar(&ch.wait, "wait", false, "watch until it is over (the default on a terminal)")
	ch.flags(cmd)
	ch.timeoutFlag(cmd, time.Hour)
	return cmd
}
