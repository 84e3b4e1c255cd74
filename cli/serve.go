package cli

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane"
	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/telemetry"
)

// shutdownFor bounds a server's way down once it was told to go.
const shutdownFor = 30 * time.Second

// server is what the server commands run.
type server interface {
	Stop(ctx context.Context) error
}

func controlPlaneCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "controlplane",
		Short:   "Run one replica of the control plane",
		Long:    "Run one replica of the control plane: catalog, operations and the admin API.\nAny number of replicas may run on one catalog.\n\nSettings come from the YAML file and are overridden by FREEHOLD_* variables.",
		GroupID: "serve",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := controlplane.LoadConfig(file)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), "freehold-controlplane", cfg.Name, func(ctx context.Context) (server, error) {
				return controlplane.Start(ctx, cfg)
			})
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "YAML file with the settings")
	return cmd
}

func dataPlaneCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "dataplane",
		Short:   "Run one data-plane node",
		Long:    "Run one data-plane node: the REST API of every tenant. Nodes keep no state.\n\nSettings come from the YAML file and are overridden by FREEHOLD_* variables.",
		GroupID: "serve",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := dataplane.LoadConfig(file)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), "freehold-dataplane", cfg.Name, func(ctx context.Context) (server, error) {
				return dataplane.Start(ctx, cfg)
			})
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "YAML file with the settings")
	return cmd
}

// serve runs a server until ctx ends.
func serve(ctx context.Context, service, name string, start func(context.Context) (server, error)) (err error) {
	flush, err := telemetry.Setup(ctx, service, name)
	if err != nil {
		return err
	}
	// The server's own life must not end with the signal: it drains first.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	unbind := context.AfterFunc(ctx, cancel)
	s, err := start(life)
	if err != nil {
		return errors.Join(err, flush(life))
	}
	var broken <-chan error // never, for a server that does not tell
	if b, ok := s.(interface{ Done() <-chan error }); ok {
		broken = b.Done()
	}
	if unbind() {
		slog.Info("serving")
		select {
		case <-ctx.Done():
		case err = <-broken: // whoever runs us starts us anew
		}
	}
	slog.Info("stopping")
	stopCtx, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), shutdownFor)
	defer cancelStop()
	return errors.Join(err, s.Stop(stopCtx), flush(stopCtx))
}
