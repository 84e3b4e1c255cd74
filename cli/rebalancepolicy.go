package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/balance/policyfile"
)

func rebalancePolicyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Declare how tenants are to be placed",
		Long: `Declare how tenants are to be placed, in a file:

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
	cmd.AddCommand(rebalancePolicyShowCommand(), rebalancePolicyDiffCommand(), rebalancePolicyApplyCommand())
	return cmd
}

func rebalancePolicyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show [FILE]",
		Short: "Show what is declared in the fleet; or check a file, and write it in full",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return showDeclared(cmd)
			}
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
	}
}

func showDeclared(cmd *cobra.Command) error {
	c, err := connect(cmd)
	if err != nil {
		return err
	}
	p, err := c.PlacementPolicy(cmd.Context())
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f := outputFormat(cmd); f == asJSON || f == asYAML {
		return printDocument(out, f, p)
	}
	fmt.Fprintf(out, "# version %d, by %s at %s", p.Version, clean(p.ChangedBy), p.ChangedAt.UTC().Format(time.RFC3339))
	if p.Reason != "" {
		fmt.Fprintf(out, ": %s", clean(p.Reason))
	}
	fmt.Fprintf(out, "\n%s", clean(p.File))
	if p.MoreTenants > 0 {
		fmt.Fprintf(out, "  # and %d tenants more\n", p.MoreTenants)
	}
	return nil
}

func rebalancePolicyDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff FILE | BEFORE AFTER",
		Short: "Show what applying a file would change, or what changes from one file to another",
		Long:  "Show what applying a file would change in the fleet, and whether it would be\nrefused; or, of two files, what changes from one to the other.",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return applyPolicyFile(cmd, args[0], true, change{})
			}
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
	}
}

func rebalancePolicyApplyCommand() *cobra.Command {
	var ch change
	var version int64
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Declare what a file says: its policy as a whole, and each shard and tenant that it names",
		Long: `Declare what a file says. The section policy counts as a whole: what it leaves out
has its default; without the section the policy stays. Of shards and tenants those
that the file names get what it says of them ({} takes all away), and all others
stay as they are: tenants come and go without the file.

What the fleet cannot keep is refused with the reason, and nothing is changed.
No tenant moves because of it: that takes a plan.`,
		Example: "  tenant-ops rebalance policy diff fleet.yaml\n  tenant-ops rebalance policy apply fleet.yaml --if-version 7 --reason 'more headroom'",
		Args:    oneArg("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("if-version") {
				ch.Version = &version
			}
			return applyPolicyFile(cmd, args[0], false, ch)
		},
	}
	cmd.Flags().Int64Var(&version, "if-version", 0, "only if this is the version that `rebalance policy show` shows")
	ch.flags(cmd)
	return cmd
}

func applyPolicyFile(cmd *cobra.Command, file string, dry bool, ch change) error {
	text, _, err := loadPolicyFile(cmd, file)
	if err != nil {
		return err
	}
	c, err := connect(cmd)
	if err != nil {
		return err
	}
	applied, err := c.ApplyPolicy(cmd.Context(), api.ApplyPolicy{File: string(text), DryRun: dry}, ch.Change)
	if err != nil {
		return err
	}
	if err := printApplied(cmd, applied); err != nil {
		return err
	}
	switch {
	case !applied.Feasible:
		return &statusError{exitRefused, "change what stands against it, or add shards that can keep it; nothing was changed", errors.New(applied.Refusal)}
	case dry && len(applied.Changes) > 0:
		next(cmd, fmt.Sprintf("rebalance policy apply %s --if-version %d", file, applied.Version))
	case !dry:
		next(cmd, "rebalance plan")
	}
	return nil
}

// printApplied prints what a change of the declared came to.
func printApplied(cmd *cobra.Command, a api.AppliedPolicy) error {
	out, f := cmd.OutOrStdout(), outputFormat(cmd)
	if f == asJSON || f == asYAML {
		return printDocument(out, f, a)
	}
	if len(a.Changes) == 0 && f == asTable {
		fmt.Fprintf(out, "nothing changes: all of it is declared already, in version %d\n", a.Version)
		return nil
	}
	return printItems(out, f, a.Changes, []column[api.PolicyChange]{
		{"what", func(c api.PolicyChange) any { return c.Path }},
		{"before", func(c api.PolicyChange) any { return c.Before }},
		{"after", func(c api.PolicyChange) any { return c.After }},
	})
}

// readPolicyFile reads a file that the command line names; "-" is the standard input.
func readPolicyFile(cmd *cobra.Command, file string) (*policyfile.Document, error) {
	_, d, err := loadPolicyFile(cmd, file)
	return d, err
}

// loadPolicyFile is readPolicyFile, with the text as it is.
func loadPolicyFile(cmd *cobra.Command, file string) (text []byte, d *policyfile.Document, err error) {
	if file == "-" {
		text, err = io.ReadAll(cmd.InOrStdin())
	} else {
		text, err = os.ReadFile(file) //nolint:gosec // the user's own file
	}
	if err == nil {
		if d, err = policyfile.Parse(text); err == nil {
			return text, d, nil
		}
	}
	return nil, nil, &usageError{cmd.CommandPath(), fmt.Errorf("%s: %w", file, err)}
}
