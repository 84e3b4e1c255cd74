package cli

import (
	"crypto/rand"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/internal/issuer"
)

func devPersonCommand() *cobra.Command {
	var p issuer.Person
	cmd := &cobra.Command{
		Use:   "person NAME",
		Short: "Let a person sign in to the development fleet, and print a new password",
		Long: `Let a person sign in to the development fleet (tenant-ops login), or give one who
does a new password and other groups, and print the password, this once. The groups viewers,
operators and admins have these roles in the whole fleet; others are for tenant-ops binding.`,
		Example: "  tenant-ops dev person alice --group admins\n  tenant-ops dev person bob --group support && tenant-ops binding create --issuer dev --group support --role viewer --tenant acme",
		Args:    oneArg("person's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := dev.IssuerDir(fleetDir(cmd))
			if _, err := issuer.Open(dir); err != nil {
				return err
			}
			p.Name = args[0]
			password := rand.Text()
			if err := issuer.SetPerson(dir, p, password); err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), password); err != nil {
				return err
			}
			next(cmd, "login")
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&p.Groups, "group", nil, "a group that he is in; may be given more than once")
	return cmd
}
