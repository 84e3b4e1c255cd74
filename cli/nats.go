package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nkeys"
	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/internal/natslink"
	"github.com/freehold-db/freehold/internal/natsrole"
	"github.com/freehold-db/freehold/shardmap"
)

func natsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "nats",
		Short:   "Keys and permissions for a NATS cluster",
		GroupID: "serve",
	}
	cmd.AddCommand(natsKeyCommand(), natsConfigCommand())
	return cmd
}

func natsKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "key FILE",
		Short: "Make an NKey, unless FILE has one, and print its public part",
		Long: `Make an NKey: FILE gets the seed, which is a secret and goes to the one server that
is known by it (nats_seed_file); the public part is printed, for tenant-ops nats config.`,
		Example: "  tenant-ops nats key /etc/freehold/nats.nk",
		Args:    oneArg("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			public, err := natslink.Seed(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), public)
			return err
		},
	}
}

func natsConfigCommand() *cobra.Command {
	var controlPlane, auditor string
	var nodes map[string]string
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the accounts of a NATS server's configuration",
		Long: `Print the block accounts of a NATS server's configuration: who may connect, by the public
part of their NKeys, and which subjects they may publish on and hear. Nobody else may
connect. See deploy/nats/nats-server.conf.`,
		Example: "  tenant-ops nats config --control-plane UABC… --auditor UDEF… --node n1=UGHI… --node n2=UJKL… > accounts.conf",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			users := []natsrole.User{{Key: controlPlane, Role: natsrole.ControlPlane()}, {Key: auditor, Role: natsrole.Auditor()}}
			for _, name := range slices.Sorted(maps.Keys(nodes)) {
				if err := shardmap.CheckNode(name); err != nil {
					return &usageError{cmd.CommandPath(), err}
				}
				users = append(users, natsrole.User{Key: nodes[name], Role: natsrole.Node(name)})
			}
			seen := map[string]bool{}
			for _, u := range users {
				if !nkeys.IsValidPublicUserKey(u.Key) {
					return &usageError{cmd.CommandPath(), fmt.Errorf("%s: want the public part of an NKey, as `tenant-ops nats key` prints it", u.Role.Name)}
				}
				if seen[u.Key] {
					return &usageError{cmd.CommandPath(), errors.New("every role and every node needs a key of its own")}
				}
				seen[u.Key] = true
			}
			return natsrole.WriteConfig(cmd.OutOrStdout(), users)
		},
	}
	cmd.Flags().StringVar(&controlPlane, "control-plane", "", "public key of the control plane")
	cmd.Flags().StringVar(&auditor, "auditor", "", "public key by which the control plane adds to the audit log's stream (nats_audit_seed_file)")
	cmd.Flags().StringToStringVar(&nodes, "node", nil, "NAME=KEY: public key of the data-plane node of that name")
	return cmd
}
