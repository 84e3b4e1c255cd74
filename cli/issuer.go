package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/access"
)

func issuerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "issuer", Aliases: []string{"issuers"}, Short: "Let tenants' own identity providers in (single sign-on)", GroupID: "operate"}
	cmd.AddCommand(issuerAddCommand(), issuerListCommand(), issuerRemoveCommand())
	return cmd
}

func issuerAddCommand() *cobra.Command {
	var in api.Issuer
	var ch change
	cmd := &cobra.Command{
		Use:   "add TENANT URL",
		Short: "Accept an issuer's tokens for a tenant, and for no other; again: change it",
		Long: `Accept tokens of an OpenID Connect issuer for a tenant, and for no other. URL is
the tokens' iss, exactly. The same URL again replaces what was said of it.

Say --audience, and have the issuer put that into tokens of this tenant's people
alone: where several tenants trust the same issuer under the nodes' audience,
each one's tokens are good for all of them. Tokens must name their key (kid).`,
		Example: "  tenant-ops issuer add acme https://id.acme.example --audience freehold --role-claim realm_access.role --default-role viewer",
		Args:    twoArgs("tenant's ID", "issuer's URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.URL = args[1]
			checked := access.Issuer(in)
			if err := checked.Validate(); err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			if in.Audience == "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: without --audience, all tokens of this issuer for the nodes' audience are good for the tenant, whoever else has them made there")
			}
			return editTenant(cmd, args[0], ch, func(now api.TenantAccess) (api.PatchTenantAccess, error) {
				issuers := slices.Clone(now.Issuers)
				if i := slices.IndexFunc(issuers, func(i api.Issuer) bool { return i.URL == in.URL }); i >= 0 {
					issuers[i] = in
				} else {
					issuers = append(issuers, in)
				}
				return api.PatchTenantAccess{Issuers: &issuers}, nil
			}, "issuer list "+args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.JWKSURL, "jwks-url", "", "where its keys are (default as its discovery document says)")
	f.StringVar(&in.Audience, "audience", "", "what must be in aud (default the nodes')")
	f.StringSliceVar(&in.Algorithms, "algorithm", nil, "accepted signature, like ES256 (default the nodes')")
	f.StringVar(&in.RoleClaim, "role-claim", "", "where tokens name the role, with dots (default role)")
	f.StringVar(&in.DefaultRole, "default-role", "", "role of tokens that name none (default: they are refused)")
	ch.flags(cmd)
	return cmd
}

func issuerListCommand() *cobra.Command {
	return aboutTenant("list TENANT", "List the issuers of a tenant's own", func(cmd *cobra.Command, c *client.Client, tenant string) error {
		a, err := c.TenantAccess(cmd.Context(), tenant)
		if err != nil {
			return err
		}
		return printItems(cmd.OutOrStdout(), outputFormat(cmd), a.Issuers, []column[api.Issuer]{
			{"url", func(i api.Issuer) any { return i.URL }},
			{"audience", func(i api.Issuer) any { return i.Audience }},
			{"algorithms", func(i api.Issuer) any { return strings.Join(i.Algorithms, ",") }},
			{"role claim", func(i api.Issuer) any { return i.RoleClaim }},
			{"default role", func(i api.Issuer) any { return i.DefaultRole }},
			{"keys", func(i api.Issuer) any { return i.JWKSURL }},
		})
	})
}

func issuerRemoveCommand() *cobra.Command {
	var ch change
	var yes bool
	cmd := &cobra.Command{
		Use:   "rm TENANT URL",
		Short: "Refuse an issuer's tokens from now on",
		Args:  twoArgs("tenant's ID", "issuer's URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTenant(cmd, args[0]); err != nil {
				return err
			}
			if err := confirm(cmd, yes, "Tokens of "+args[1]+" are refused for tenant "+args[0]+" from now on.", args[0], "the tenant's ID"); err != nil {
				return err
			}
			return editTenant(cmd, args[0], ch, func(now api.TenantAccess) (api.PatchTenantAccess, error) {
				left := slices.DeleteFunc(slices.Clone(now.Issuers), func(i api.Issuer) bool { return i.URL == args[1] })
				if len(left) == len(now.Issuers) {
					return api.PatchTenantAccess{}, &statusError{exitNotFound, "tenant-ops issuer list " + args[0] + " shows those it has",
						fmt.Errorf("tenant %s has no issuer %s", args[0], args[1])}
				}
				return api.PatchTenantAccess{Issuers: &left}, nil
			})
		},
	}
	yesFlag(cmd, &yes)
	ch.flags(cmd)
	return cmd
}

// twoArgs wants exactly two arguments, what they are called in the usage line.
func twoArgs(first, second string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return errors.New("the " + first + " is missing")
		case 1:
			return errors.New("the " + second + " is missing")
		case 2:
			return nil
		}
		return fmt.Errorf("%s and %s only, not also %q", first, second, args[2])
	}
}
