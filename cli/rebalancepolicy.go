package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/balance/policyfile"
)

func rebalancePolicyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Look at files that declare how tenants are to be placed",
		Long: `Look at files that declare how tenants are to be placed; no server is needed:

  policy:                          # all of it may be left out
    headroom: 20%                  # of each capacity stays free
    tolerance: 5%                  # over its even share a shard may be after a plan
    margin: 3%                     # further over before a plan begins
    floor: {bytes: 5%}             # fill below which a dimension is not balanced
    cooldown: 24h                  # before a tenant is moved again
    quiet: [mon-fri 08:00-18:00]   # UTC; no move begins then
    max_moves: 4                   # at once; 0: no bound
    max_moves_per_shard: 1
    max_bytes_per_hour: 500GB
  shards:                          # capacities
    s1: {bytes: 2TB, connections: 500, load: 8, wal: 50MB/s, databases: 5000}
  tenants:                         # needs
    acme: {region: eu, class: large, require: {disk: nvme}, forbid: {old: "yes"},
           apart: banks, pinned: true, exclusive: true}`,
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "show FILE",
		Short: "Check a file, and write it in full, with what it leaves to defaults",
		Args:  oneArg("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := readPolicyFile(cmd, args[0])
			if err != nil {
				return err
			}
			text, err := d.Write()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}, &cobra.Command{
		Use:   "diff BEFORE AFTER",
		Short: "Show what changes from one file to another",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			before, err := readPolicyFile(cmd, args[0])
			if err != nil {
				return err
			}
			after, err := readPolicyFile(cmd, args[1])
			if err != nil {
				return err
			}
			changes, err := policyfile.Diff(before, after)
			if err != nil {
				return err
			}
			return printItems(cmd.OutOrStdout(), outputFormat(cmd), changes, []column[policyfile.Change]{
				{"what", func(c policyfile.Change) any { return c.Path }},
				{"before", func(c policyfile.Change) any { return c.Before }},
				{"after", func(c policyfile.Change) any { return c.After }},
			})
		},
	})
	return cmd
}

// readPolicyFile reads a file that the command line names; "-" is the standard input.
func readPolicyFile(cmd *cobra.Command, file string) (*policyfile.Document, error) {
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(cmd.InOrStdin())
	} else {
		text, err = os.ReadFile(file) //nolint:gosec // the user's own file
	}
	if err == nil {
		var d *policyfile.Document
		if d, err = policyfile.Parse(text); err == nil {
			return d, nil
		}
	}
	return nil, &usageError{cmd.CommandPath(), fmt.Errorf("%s: %w", file, err)}
}
