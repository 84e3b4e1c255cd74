package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

func whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "whoami",
		Short:   "Say which control plane is used, and as whom",
		GroupID: "operate",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			me, err := c.Whoami(cmd.Context())
			if err != nil {
				return err
			}
			return printOne(cmd, me, []column[api.Identity]{
				{"name", func(i api.Identity) any { return i.Name }},
				{"role", func(i api.Identity) any { return i.Role }},
				{"known by", func(i api.Identity) any {
					if i.Issuer != "" {
						return i.Method + " (" + i.Issuer + ")"
					}
					return i.Method
				}},
				{"may", func(i api.Identity) any { return joined(i.Grants, grantText) }},
				{"groups", func(i api.Identity) any { return strings.Join(i.Groups, ", ") }},
				{"expires", func(i api.Identity) any { return i.ExpiresAt }},
				{"control plane", func(api.Identity) any { return c.URL() }},
			})
		},
	}
}
