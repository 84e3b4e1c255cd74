package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/demo"
)

func demoCommand() *cobra.Command {
	var opts demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch a tenant move between servers under traffic, and read the receipt",
		Long: `Bring up a fleet, give a dozen tenants data, let applications read and write, move
one tenant (about 200 MB) to another Postgres server and back, and stop a
data-plane node in between. At the end stands a receipt: requests, failed ones,
writes lost or doubled, the pause. It ends by itself in under three minutes,
with status 0 only if nothing is wrong, and leaves nothing behind.`,
		Example: "  tenant-ops demo\n  tenant-ops demo --dir /var/tmp/fleet --keep",
		GroupID: "develop",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("dir") { // never the default: what is there is somebody's
				opts.Dir = fleetDir(cmd)
			}
			if opts.Keep && opts.Dir == "" {
				return &usageError{cmd.CommandPath(), errors.New("--keep needs --dir: where shall it be kept?")}
			}
			opts.Out = cmd.OutOrStdout()
			format := outputFormat(cmd)
			if format != asTable {
				opts.Out = cmd.ErrOrStderr()
			}
			result, err := demo.Run(cmd.Context(), opts)
			if err != nil && !errors.Is(err, demo.ErrUnsound) {
				return err
			}
			if format != asTable {
				return errors.Join(printDocument(cmd.OutOrStdout(), format, result), err)
			}
			result.Print(opts.Out)
			return err
		},
	}
	cmd.Flags().BoolVar(&opts.TLS, "tls", false, "certificates and TLS on every link of the fleet")
	cmd.Flags().BoolVar(&opts.Keep, "keep", false, "leave the fleet's files in --dir, so that `tenant-ops dev` resumes it")
	return cmd
}
