package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/freehold-db/freehold/cli/dev"
)

func devCommand() *cobra.Command {
	var opts dev.Options
	var detach bool
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole fleet on this machine",
		Long: `Run a whole fleet on this machine: a catalog Postgres, shards (each a Postgres
with its PgBouncer), NATS, a token issuer, the control plane and data-plane
nodes, all bound to loopback. Ctrl-C stops all of it; the same command resumes it.

DIR/dev.json says how to reach every part; DIR/log holds a log of each. With --tls
every link is by TLS, with certificates of an authority in DIR/pki, and the
control plane wants one of its clients; a fleet stays as it was made.`,
		Example: "  tenant-ops dev --detach\n  tenant-ops dev --tls\n  tenant-ops dev --shards 5 --nodes 3 --processes\n  tenant-ops dev --postgres-bin s3=/usr/lib/postgresql/18/bin",
		GroupID: "develop",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.Dir = fleetDir(cmd)
			if detach {
				return devDetached(cmd, opts)
			}
			return devForeground(cmd, opts)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&detach, "detach", false, "leave the fleet running in the background")
	f.IntVar(&opts.Shards, "shards", 0, "number of shards (default as before, or 3)")
	f.IntVar(&opts.Nodes, "nodes", 0, "number of data-plane nodes (default as before, or 2)")
	f.BoolVar(&opts.TLS, "tls", false, "certificates and TLS on every link (default as before, or none)")
	f.BoolVar(&opts.Processes, "processes", false, "run NATS, control plane and nodes as processes of their own")
	f.StringVar(&opts.ExternalNATS, "external-nats", "", "URL of a NATS server to use instead of an embedded one")
	f.StringVar(&opts.Migrations, "migrations", "", "directory of goose SQL files, the schema of every tenant (default the sample schema)")
	f.StringToStringVar(&opts.PostgresBin, "postgres-bin", nil, "SHARD=DIR: directory with the postgres and initdb of a shard that runs another version; kept with the fleet")
	cmd.AddCommand(devStatusCommand(), devDownCommand(), devDestroyCommand(), devNATSCommand(), devPersonCommand())
	return cmd
}

// devForeground runs the fleet until ctx ends.
func devForeground(cmd *cobra.Command, opts dev.Options) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	opts.Progress = func(s string) { fmt.Fprintln(cmd.ErrOrStderr(), s, "…") }
	began := time.Now()
	fleet, err := dev.Start(ctx, opts)
	if err != nil {
		return err
	}
	describe(out, opts.Dir, fleet.Info(), time.Since(began))
	<-ctx.Done()
	fmt.Fprintln(cmd.ErrOrStderr(), "stopping …")
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownFor)
	defer cancel()
	return fleet.Stop(stopCtx)
}

func devDetached(cmd *cobra.Command, opts dev.Options) error {
	args := []string{"dev", "--dir", opts.Dir}
	for _, name := range []string{"shards", "nodes", "tls", "processes", "external-nats", "migrations"} {
		if flag := cmd.Flag(name); flag.Changed {
			args = append(args, "--"+name+"="+flag.Value.String())
		}
	}
	for id, dir := range opts.PostgresBin {
		args = append(args, "--postgres-bin="+id+"="+dir)
	}
	began := time.Now()
	info, err := dev.Detach(cmd.Context(), opts, args)
	if err != nil {
		return err
	}
	describe(cmd.OutOrStdout(), opts.Dir, info, time.Since(began))
	return nil
}

func describe(out io.Writer, dir string, info dev.Info, took time.Duration) {
	fmt.Fprintf(out, "The fleet is up after %.1f s.\n\n", took.Seconds())
	fmt.Fprintf(out, "  admin API    %s\n", info.AdminURL)
	for _, u := range info.DataplaneURLs {
		fmt.Fprintf(out, "  data plane   %s\n", u)
	}
	fmt.Fprintf(out, "  token issuer %s\n  shards       %d\n  details      %s/dev.json\n\n", info.IssuerURL, len(info.Shards), dir)
	in := ""
	if dir != ".dev" && dir != os.Getenv(EnvDir) {
		in = " --dir " + dir
	}
	fmt.Fprintf(out, "Try:\n  tenant-ops tenant create acme%[1]s\n  tenant-ops tenant move acme --to s2 --wait%[1]s\n  tenant-ops dev down%[1]s\n", in)
}

// partState is the document that dev status prints of a part.
type partState struct {
	Part    string `json:"part"`
	PID     int    `json:"pid,omitempty"`
	Address string `json:"address"`
	TLS     bool   `json:"tls"`
	Up      bool   `json:"up"`
	Error   string `json:"error,omitempty"`
}

var partColumns = []column[partState]{
	{"part", func(p partState) any { return p.Part }},
	{"pid", func(p partState) any {
		if p.PID == 0 {
			return ""
		}
		return p.PID
	}},
	{"address", func(p partState) any { return p.Address }},
	{"links", func(p partState) any {
		if p.TLS {
			return "tls"
		}
		return "plain"
	}},
	{"state", func(p partState) any {
		if p.Up {
			return "up"
		}
		return "down: " + p.Error
	}},
}

func devStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what of the fleet runs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			parts, err := dev.Status(cmd.Context(), fleetDir(cmd))
			if err != nil {
				return err
			}
			down := 0
			states := make([]partState, 0, len(parts))
			for _, p := range parts {
				state := partState{Part: p.Name, PID: p.PID, Address: p.Address, TLS: p.TLS, Up: p.Err == nil}
				if p.Err != nil {
					state.Error, down = strings.ReplaceAll(p.Err.Error(), "\n", "; "), down+1
				}
				states = append(states, state)
			}
			if err := printItems(cmd.OutOrStdout(), outputFormat(cmd), states, partColumns); err != nil {
				return err
			}
			if down > 0 {
				return fmt.Errorf("%d of %d parts are down; their logs are in %s/log", down, len(parts), fleetDir(cmd))
			}
			return nil
		},
	}
}

func devDownCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Stop the fleet; its data stays",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*shutdownFor)
			defer cancel()
			err := dev.Down(ctx, fleetDir(cmd))
			if errors.Is(err, dev.ErrNotRunning) {
				fmt.Fprintf(cmd.OutOrStdout(), "No fleet is running in %s.\n", fleetDir(cmd))
				return nil
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "The fleet in %s is stopped. Start it again with `tenant-ops dev`, or remove its data with `tenant-ops dev destroy`.\n", fleetDir(cmd))
			return nil
		},
	}
}

func devDestroyCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "destroy",
		Short: "Stop the fleet and remove its data for good",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir := fleetDir(cmd)
			if !yes {
				return &usageError{cmd.CommandPath(), fmt.Errorf("this removes the fleet in %s with all its tenants' data: say --yes to go on", dir)}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*shutdownFor)
			defer cancel()
			if err := dev.Destroy(ctx, dir); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "The fleet in %s is gone.\n", dir)
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func devNATSCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:    "nats",
		Short:  "Run the development fleet's NATS server",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			var cfg dev.NATSConfig
			if err := yaml.Unmarshal(b, &cfg); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			return serve(cmd.Context(), "freehold-nats", "nats", func(ctx context.Context) (server, error) {
				return cfg.Start(ctx, slog.Default())
			})
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "YAML file with the settings")
	return cmd
}
