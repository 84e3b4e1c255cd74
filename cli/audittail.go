package cli

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/sleep"
)

// tailEvery is the time between looks at the log.
const tailEvery = time.Second

func auditTailCommand() *cobra.Command {
	var q auditQuery
	var last int
	cmd := &cobra.Command{
		Use:     "tail",
		Short:   "Show the newest records, and those that come, until Ctrl-C",
		Example: "  tenant-ops audit tail --tenant acme\n  tenant-ops audit tail -o json | jq .action",
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := q.filter(cmd)
			if err != nil {
				return err
			}
			if f := outputFormat(cmd); f != asTable && f != asJSON {
				return &usageError{cmd.CommandPath(), fmt.Errorf("--output: tail prints lines: table or json")}
			}
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			var newest []api.AuditEntry
			for e, err := range c.Audit(cmd.Context(), f) {
				if err != nil {
					return err
				}
				if newest = append(newest, e); len(newest) >= max(last, 1) {
					break
				}
			}
			var position int64
			if len(newest) > 0 {
				position = newest[0].Position
			}
			for i := min(last, len(newest)) - 1; i >= 0; i-- {
				if err := printRecord(cmd, newest[i]); err != nil {
					return err
				}
			}
			for sleep.For(cmd.Context(), tailEvery) == nil {
				more, err := c.AuditAbove(cmd.Context(), f, position)
				if cmd.Context().Err() != nil {
					break
				}
				if err != nil {
					return err
				}
				for _, e := range more {
					position = e.Position
					if err := printRecord(cmd, e); err != nil {
						return err
					}
				}
			}
			return &silentError{exitInterrupted}
		},
	}
	q.flags(cmd)
	cmd.Flags().IntVarP(&last, "lines", "n", 10, "begin with this many of the newest")
	return cmd
}

func printRecord(cmd *cobra.Command, e api.AuditEntry) error {
	out := cmd.OutOrStdout()
	if outputFormat(cmd) == asJSON {
		return json.NewEncoder(out).Encode(e)
	}
	line := fmt.Sprintf("%s  %-8d %-8s %s  %s by %s", forPeople(e.Time), e.Position, e.Outcome, e.Action, e.Object, e.Actor)
	if e.Reason != "" {
		line += ": " + e.Reason
	}
	_, err := fmt.Fprintln(out, clean(line))
	return err
}
