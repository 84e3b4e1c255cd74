package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/freehold-db/freehold/cli/dev"
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
			var cfg controlplane.Config
			if err := loadConfig(file, &cfg); err != nil {
				return err
			}
			cfg.Defaults()
			cfg.Name = serverName(cfg.Name)
			return serve(cmd.Context(), "freehold-controlplane", cfg.Name, func(ctx context.Context) (server, error) {
				return dev.StartControlPlane(ctx, cfg)
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
			cfg.Name = serverName(cfg.Name)
			return serve(cmd.Context(), "freehold-dataplane", cfg.Name, func(ctx context.Context) (server, error) {
				return dataplane.Start(ctx, cfg)
			})
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "YAML file with the settings")
	return cmd
}

// serverName defaults to host name and process ID, unique in a fleet.
func serverName(name string) string {
	if name != "" {
		return name
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}

// loadConfig reads a configuration from a YAML file (none if the name is
// empty) and then from the environment. A key that it does not know is refused.
func loadConfig(file string, into any) error {
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		defer f.Close() //nolint:errcheck // read only
		dec := yaml.NewDecoder(f)
		dec.KnownFields(true)
		if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("configuration %s: %w", file, err)
		}
	}
	if err := env.Parse(into); err != nil {
		return fmt.Errorf("configuration from the environment: %w", err)
	}
	return nil
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
	if unbind() {
		slog.Info("serving")
		<-ctx.Done()
	}
	slog.Info("stopping")
	stopCtx, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), shutdownFor)
	defer cancelStop()
	return errors.Join(s.Stop(stopCtx), flush(stopCtx))
}
