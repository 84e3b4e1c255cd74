package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// paceFlag adds the flag --pace.
func paceFlag(cmd *cobra.Command, pace *string) {
	cmd.Flags().StringVar(pace, "pace", api.PaceConsiderate, "how to copy while others work on the servers: considerate (one thing at a time, with rests), or full")
}

// checkPace takes the flag --pace. Who did not give it says nothing of it, also
// to a control plane that is older and would not know it.
func checkPace(cmd *cobra.Command, pace *string) error {
	switch {
	case !cmd.Flags().Changed("pace"):
		*pace = ""
	case *pace != api.PaceConsiderate && *pace != api.PaceFull:
		return &usageError{cmd.CommandPath(), fmt.Errorf("--pace %q: want considerate or full", *pace)}
	}
	return nil
}

func opPaceCommand() *cobra.Command {
	var in api.Pace
	var ch change
	var rate int64
	cmd := &cobra.Command{
		Use:   "pace ID",
		Short: "Have a move or a clone that is under way copy faster or slower",
		Long: `Have a move or a clone that is under way copy faster or slower, whichever worker
goes on with it. What is not given stays as it was; "op show" says what was asked.`,
		Example:           "  tenant-ops op pace 0190a0a0-0000-7000-8000-000000000000 --max-rate 50MB\n  tenant-ops op pace 0190a0a0-0000-7000-8000-000000000000 --max-rate 0 --pace full",
		Args:              oneArg("operation's ID"),
		ValidArgsFunction: completeOperations,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkPace(cmd, &in.Pace); err != nil {
				return err
			}
			if cmd.Flags().Changed("max-rate") {
				in.MaxBytesPerS = &rate
			}
			if in == (api.Pace{}) {
				return &usageError{cmd.CommandPath(), errors.New("give --max-rate, --pace, or both")}
			}
			c, err := connectFor(cmd, checkOperation, args[0])
			if err != nil {
				return err
			}
			op, err := c.SetPace(cmd.Context(), args[0], in, ch.Change)
			if err != nil {
				return err
			}
			if err := printOne(cmd, op, operationDetails); err != nil {
				return err
			}
			next(cmd, "op watch "+op.ID)
			return nil
		},
	}
	cmd.Flags().Var(sizeFlag{&rate}, "max-rate", "copy no more than this a second over the wire, like 50MB; 0: as much as the servers bear")
	paceFlag(cmd, &in.Pace)
	ch.flags(cmd)
	return cmd
}

// askedOf says what pace was asked of an operation.
func askedOf(o api.Operation) any {
	var parts []string
	if o.Asked != nil && o.Asked.MaxBytesPerS != nil {
		most := "as fast as the servers bear"
		if n := *o.Asked.MaxBytesPerS; n > 0 {
			most = fmt.Sprintf("%v a second", size(n))
		}
		parts = append(parts, most)
	}
	if o.Asked != nil && o.Asked.Pace != "" {
		parts = append(parts, o.Asked.Pace)
	}
	return strings.Join(parts, ", ")
}
