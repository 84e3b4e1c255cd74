package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

func bindingCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "binding", Aliases: []string{"bindings"}, Short: "Give people and groups of an identity provider roles in the fleet", GroupID: "operate"}
	cmd.AddCommand(bindingCreateCommand(), bindingListCommand(), bindingRemoveCommand())
	return cmd
}

var bindingColumns = []column[api.Binding]{
	{"id", func(b api.Binding) any { return b.ID }},
	{"issuer", func(b api.Binding) any { return b.Issuer }},
	{"who", func(b api.Binding) any {
		if b.Group != "" {
			return "group " + b.Group
		}
		return b.User
	}},
	{"may", func(b api.Binding) any { return grantText(b.Grant) }},
	{"by", func(b api.Binding) any { return b.CreatedBy }},
	{"created", func(b api.Binding) any { return b.CreatedAt }},
	{"expires", func(b api.Binding) any { return b.ExpiresAt }},
}

func bindingCreateCommand() *cobra.Command {
	var in api.CreateBinding
	var g grantFlags
	var ttl time.Duration
	var ch change
	cmd := &cobra.Command{
		Use:   "create --issuer NAME (--user NAME | --group NAME) --role ROLE (--all | --tenant ID | --label NAME=VALUE | --shard ID)",
		Short: "Bind a person or a group to a role somewhere",
		Long: `Bind a person or a group, as the issuer's tokens name them, to a role somewhere.
Nobody binds others to more than he has himself. It holds from the next request on.`,
		Example: "  tenant-ops binding create --issuer corp --group payments --role operator --label team=payments\n" +
			"  tenant-ops binding create --issuer corp --user alice --role admin --tenant acme --ttl 8h",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if in.Grant, err = g.grant(cmd); err != nil {
				return err
			}
			if (in.User == "") == (in.Group == "") {
				return &usageError{cmd.CommandPath(), errors.New("say who: --user or --group")}
			}
			if ttl < 0 {
				return &usageError{cmd.CommandPath(), errors.New("--ttl is negative")}
			}
			if ttl > 0 {
				at := time.Now().Add(ttl).UTC().Truncate(time.Second)
				in.ExpiresAt = &at
			}
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			b, err := c.CreateBinding(cmd.Context(), in, ch.Change)
			if err != nil {
				return err
			}
			if err := printOne(cmd, b, bindingColumns); err != nil {
				return err
			}
			next(cmd, "binding list", "binding rm "+b.ID)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Issuer, "issuer", "", "the issuer's name in the control plane's configuration")
	f.StringVar(&in.User, "user", "", "a person, as the issuer names him")
	f.StringVar(&in.Group, "group", "", "a group, as the issuer names it")
	f.DurationVar(&ttl, "ttl", 0, "how long it holds; 0: until it is removed")
	mustGive(cmd, "issuer")
	g.flags(cmd)
	ch.flags(cmd)
	return cmd
}

func bindingListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the roles of people and groups", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			return printList(cmd, c.Bindings(cmd.Context()), 0, bindingColumns)
		},
	}
}

func bindingRemoveCommand() *cobra.Command {
	var ch change
	cmd := &cobra.Command{
		Use:   "rm BINDING-ID",
		Short: "Remove a binding; it holds from the next request on",
		Args:  oneArg("binding's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !keyIDPattern.MatchString(args[0]) {
				return &usageError{cmd.CommandPath(), errors.New("that is not the ID of a binding: want 12 hex digits, as `binding list` shows")}
			}
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			return c.RemoveBinding(cmd.Context(), args[0], ch.Change)
		},
	}
	ch.flags(cmd)
	return cmd
}
