package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

func tokenRevokeCommand() *cobra.Command {
	var in api.RevokeTokens
	var ch change
	var yes bool
	var expires string
	cmd := &cobra.Command{
		Use:   "revoke TENANT (--id JTI | --all)",
		Short: "Refuse one token of a tenant's users, or all that were issued until now",
		Long: `Refuse one token of a tenant's users by its ID (jti), until it has expired by
itself; or, with --all, every token that was issued until now. API keys are no
tokens: see tenant-ops apikey revoke.`,
		Example:           "  tenant-ops token revoke acme --id 7c9e… --expires 2h\n  tenant-ops token revoke acme --all --reason \"laptop stolen\"",
		Args:              oneArg("tenant's ID"),
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.All == (in.ID != "") {
				return &usageError{cmd.CommandPath(), errors.New("say either --id JTI or --all")}
			}
			what := "Every token of tenant " + args[0] + " that was issued until now is refused: its users log in again."
			if in.ID != "" {
				what = "Token " + in.ID + " of tenant " + args[0] + " is refused from now on."
				at, err := moment(expires)
				if err != nil {
					return &usageError{cmd.CommandPath(), fmt.Errorf("--expires: %w", err)}
				}
				in.ExpiresAt = &at
			}
			c, err := connectFor(cmd, checkTenant, args[0])
			if err != nil {
				return err
			}
			if err := confirm(cmd, yes, what, args[0], "the tenant's ID"); err != nil {
				return err
			}
			a, err := c.RevokeTokens(cmd.Context(), args[0], in, ch.Change)
			if err != nil {
				return err
			}
			return printOne(cmd, a, accessColumns)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.ID, "id", "", "the token's jti")
	f.StringVar(&expires, "expires", "720h", "when the token expires by itself: a time (RFC 3339), or in how long")
	f.BoolVar(&in.All, "all", false, "every token issued until now")
	yesFlag(cmd, &yes)
	ch.flags(cmd)
	return cmd
}

// moment is a time, or in that long.
func moment(s string) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(d).UTC().Truncate(time.Second), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%q is neither a time like 2026-01-31T12:00:00Z nor a duration like 24h", s)
	}
	return t, nil
}
