package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "doctor", Short: "Look the fleet over", GroupID: "operate"}
	cmd.AddCommand(doctorSecurityCommand())
	return cmd
}

func doctorSecurityCommand() *cobra.Command {
	var shard string
	var all bool
	cmd := &cobra.Command{
		Use:   "security",
		Short: "Look for whatever is less tight than the platform makes it",
		Long: `Look for whatever is less tight than the platform makes it: grants to PUBLIC, roles with
more rights than theirs, changed passwords and settings of logins, pg_hba.conf, TLS,
PgBouncer, settings that print secrets, extensions and functions that reach the server's
files or other servers, templates, the secret store. Each finding says what to do about it.
Nothing is changed.

Servers are looked at whole; databases from the inside up to 200 of a shard, chosen by
chance, unless --all is said.

The exit status is 0 if nothing was found, and 1 if anything was.`,
		Example: "  tenant-ops doctor security\n  tenant-ops doctor security --shard s1 --all -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			r, err := c.DoctorSecurity(cmd.Context(), shard, all)
			if err != nil {
				return err
			}
			if err := printSecurity(cmd, r); err != nil {
				return err
			}
			if len(r.Findings) > 0 {
				return &silentError{exitFailed}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&shard, "shard", "", "look at this shard only")
	f.BoolVar(&all, "all", false, "look into every database")
	completeFlag(cmd, "shard", completeShards)
	return cmd
}

func printSecurity(cmd *cobra.Command, r api.SecurityReport) error {
	out := cmd.OutOrStdout()
	switch f := outputFormat(cmd); f {
	case asJSON, asYAML:
		return printDocument(out, f, r)
	case asCSV:
		return printItems(out, f, r.Findings, findingColumns)
	default:
		if len(r.Findings) > 0 {
			if err := printItems(out, f, r.Findings, findingColumns); err != nil {
				return err
			}
		}
		fmt.Fprintf(out, "%s; %d of %d databases on %d shards were looked into\n", counted(len(r.Findings)), r.Looked, r.Databases, r.Shards)
		return nil
	}
}

func counted(n int) string {
	switch n {
	case 0:
		return "nothing found"
	case 1:
		return "1 finding"
	}
	return fmt.Sprintf("%d findings", n)
}

var findingColumns = []column[api.SecurityFinding]{
	{"severity", func(f api.SecurityFinding) any { return f.Severity }},
	{"shard", func(f api.SecurityFinding) any { return string(f.Shard) }},
	{"where", func(f api.SecurityFinding) any { return f.Where }},
	{"what", func(f api.SecurityFinding) any { return f.What }},
	{"remedy", func(f api.SecurityFinding) any { return f.Remedy }},
}
