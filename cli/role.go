package cli

import (
	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/access"
)

func roleCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "role", Aliases: []string{"roles"}, Short: "Make and drop database roles of tenants' own", GroupID: "operate"}
	cmd.AddCommand(roleCreateCommand(), roleListCommand(), roleRemoveCommand())
	return cmd
}

var roleColumns = []column[api.TenantRole]{
	{"name", func(r api.TenantRole) any { return r.Name }},
	{"database role", func(r api.TenantRole) any { return r.DatabaseRole }},
	{"description", func(r api.TenantRole) any { return r.Description }},
	{"by", func(r api.TenantRole) any { return r.CreatedBy }},
	{"created", func(r api.TenantRole) any { return r.CreatedAt }},
}

func checkRole(cmd *cobra.Command, name string) error {
	if err := access.CheckCustomRole(name); err != nil {
		return &usageError{cmd.CommandPath(), err}
	}
	return nil
}

func roleCreateCommand() *cobra.Command {
	var in api.CreateRole
	var ch change
	cmd := &cobra.Command{
		Use:   "create TENANT NAME",
		Short: "Make a database role that tokens and keys of the tenant may name",
		Long: `Make a database role of a tenant's own. It may use the application's schemas and
nothing in them: the tenant's owner grants the rest, in a migration or by psql,
to the database role that is printed.`,
		Example: "  tenant-ops role create acme analyst --description \"reads figures\"",
		Args:    twoArgs("tenant's ID", "role's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkRole(cmd, args[1]); err != nil {
				return err
			}
			c, err := connectFor(cmd, checkTenant, args[0])
			if err != nil {
				return err
			}
			in.Name = args[1]
			r, err := c.CreateRole(cmd.Context(), args[0], in, ch.Change)
			if err != nil {
				return err
			}
			if err := printOne(cmd, r, roleColumns); err != nil {
				return err
			}
			next(cmd, "tenant psql "+args[0]+" -- -c 'GRANT SELECT ON TABLE … TO "+r.DatabaseRole+"'", "apikey create "+args[0]+" --role "+r.Name)
			return nil
		},
	}
	cmd.Flags().StringVar(&in.Description, "description", "", "what it is for")
	ch.flags(cmd)
	return cmd
}

func roleListCommand() *cobra.Command {
	return aboutTenant("list TENANT", "List the database roles of a tenant's own", func(cmd *cobra.Command, c *client.Client, tenant string) error {
		return printList(cmd, c.Roles(cmd.Context(), tenant), 0, roleColumns)
	})
}

func roleRemoveCommand() *cobra.Command {
	var ch change
	var yes bool
	cmd := &cobra.Command{
		Use:     "rm TENANT NAME",
		Aliases: []string{"drop"},
		Short:   "Drop a database role of a tenant's own, and what was granted to it",
		Args:    twoArgs("tenant's ID", "role's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkRole(cmd, args[1]); err != nil {
				return err
			}
			c, err := connectFor(cmd, checkTenant, args[0])
			if err != nil {
				return err
			}
			what := "This drops role " + args[1] + " of tenant " + args[0] + ": what was granted to it is lost, what it owns becomes the owner's."
			if err := confirm(cmd, yes, what, args[1], "the role's name"); err != nil {
				return err
			}
			return c.DropRole(cmd.Context(), args[0], args[1], ch.Change)
		},
	}
	yesFlag(cmd, &yes)
	ch.flags(cmd)
	return cmd
}
