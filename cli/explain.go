package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

func tenantExplainCommand() *cobra.Command {
	cmd := aboutTenant("explain ID", "Say why a tenant lives where it does, and why not elsewhere", explainTenant)
	cmd.Long = "Say why a tenant lives where it does, and of each other shard what keeps it from\nthere, or what that shard would carry with it. `rebalance plan` says what should be done."
	return cmd
}

func explainTenant(cmd *cobra.Command, c *client.Client, tenant string) error {
	e, err := c.ExplainTenant(cmd.Context(), tenant)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	f := outputFormat(cmd)
	if f == asJSON || f == asYAML {
		return printDocument(out, f, e)
	}
	if f == asTable {
		fmt.Fprintf(out, "%s lives on %s\n", e.Tenant, e.Shard)
		if needs := needsText(e.Needs); needs != "" {
			fmt.Fprintf(out, "  needs: %s\n", clean(needs))
		}
		for _, reason := range e.Here {
			fmt.Fprintf(out, "  %s\n", clean(reason))
		}
		fmt.Fprintln(out)
	}
	if err := printItems(out, f, e.Elsewhere, []column[api.ShardOption]{
		{"shard", func(o api.ShardOption) any { return o.Shard }},
		{"possible", func(o api.ShardOption) any { return o.Constraint == "" }},
		{"because of", func(o api.ShardOption) any { return o.Constraint }},
		{"what", func(o api.ShardOption) any { return o.Detail }},
	}); err != nil {
		return err
	}
	next(cmd, "rebalance plan", "tenant needs "+tenant+" --help")
	return nil
}
