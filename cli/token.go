package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/internal/issuer"
	"github.com/freehold-db/freehold/shardmap"
)

func tokenCommand() *cobra.Command {
	var tenant string
	var c issuer.Claims
	cmd := &cobra.Command{
		Use:   "token --tenant ID --role ROLE",
		Short: "Print a development token for the REST API",
		Long: `Print a token for the data plane's REST API, minted by the development fleet's
own issuer. In production tokens come from your OIDC provider.`,
		Example: "  curl -H \"Authorization: Bearer $(tenant-ops token --tenant acme --role editor --sub alice)\" URL/rest/v1/projects",
		GroupID: "develop",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkTenant(cmd, tenant); err != nil {
				return err
			}
			signer, err := issuer.Open(dev.IssuerDir(fleetDir(cmd)))
			if err != nil {
				return err
			}
			c.Tenant = shardmap.TenantID(tenant)
			token, err := signer.Mint(c)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			if f := outputFormat(cmd); f == asJSON || f == asYAML {
				return printDocument(cmd.OutOrStdout(), f, map[string]any{"token": token, "tenant": tenant, "role": c.Role,
					"expires_at": time.Now().Add(c.TTL).UTC().Truncate(time.Second)})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&tenant, "tenant", "", "the tenant that the token is bound to")
	f.StringVar(&c.Role, "role", issuer.RoleViewer, "viewer reads, editor writes too, owner owns the schema; or one of the tenant's own")
	f.StringSliceVar(&c.Permissions, "permission", nil, "what it allows beyond REST: sql")
	f.StringVar(&c.Subject, "sub", "dev", "who the token is for")
	f.DurationVar(&c.TTL, "ttl", time.Hour, "how long the token is valid")
	mustGive(cmd, "tenant")
	cmd.AddCommand(tokenRevokeCommand())
	completeFlag(cmd, "tenant", completeTenants)
	completeFlag(cmd, "role", cobra.FixedCompletions([]string{issuer.RoleViewer, issuer.RoleEditor, issuer.RoleOwner}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
