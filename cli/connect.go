package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/cli/signin"
	"github.com/freehold-db/freehold/internal/clienttls"
)

// Environment variables that name a control plane which is no development fleet.
const (
	envURL   = "TENANT_OPS_URL"
	envToken = "TENANT_OPS_TOKEN"
	envCA    = "TENANT_OPS_CA"
	envCert  = "TENANT_OPS_CERT"
	envKey   = "TENANT_OPS_KEY"
)

const connectHelp = `The fleet is found by itself: a development fleet that runs in --dir, in
$` + EnvDir + ` or in ./.dev; else the control plane at $` + envURL + `, or the one
signed in to last (tenant-ops login), with the bearer token in $` + envToken + ` or the login's. Its certificate must come from a root that the
system knows, or one in the file --ca (or $` + envCA + `); where it asks for one of ours,
$` + envCert + ` and $` + envKey + ` name the files.`

// connect finds the control plane. A directory named on the command line must
// have a running fleet; one that is only the default need not.
func connect(cmd *cobra.Command) (*client.Client, error) {
	dir := fleetDir(cmd)
	info, err := dev.Read(dir)
	if err == nil {
		// Who signed in to a development fleet wants to be himself there, and not its admin.
		if token, err := signedIn(cmd.Context(), info.AdminURL); err == nil {
			info.AdminToken = token
		}
		return info.Client()
	}
	url := os.Getenv(envURL)
	if cmd.Flags().Changed("dir") || (url == "" && !errors.Is(err, dev.ErrNotRunning)) {
		return nil, err
	}
	if url == "" {
		url = currentLogin()
	}
	if url == "" {
		return nil, &statusError{exitUnavailable, "start a fleet with `tenant-ops dev`, name its directory with --dir, sign in (tenant-ops login URL), or set " + envURL + " and " + envToken,
			fmt.Errorf("no fleet found: none runs in %s, and %s is not set", dir, envURL)}
	}
	token := os.Getenv(envToken)
	if token == "" {
		token, err = signedIn(cmd.Context(), strings.TrimRight(url, "/"))
		if errors.Is(err, signin.ErrNone) {
			return nil, &statusError{exitUsage, "sign in (tenant-ops login " + url + "), or set " + envToken + " to a bearer token of that control plane",
				fmt.Errorf("%s is set, but %s is not, and nobody is signed in there", envURL, envToken)}
		}
		if err != nil {
			return nil, err
		}
	}
	return clientFor(cmd, url, token)
}

// currentLogin is the control plane that was signed in to last; empty: none.
func currentLogin() string {
	store, err := signin.OpenStore()
	if err != nil {
		return ""
	}
	url, err := store.Current()
	if err != nil {
		return ""
	}
	return url
}

// clientFor makes a client of the control plane at a URL.
func clientFor(cmd *cobra.Command, url, token string) (*client.Client, error) {
	secure, err := clienttls.Load(clienttls.Files{CA: caFile(cmd), Certificate: os.Getenv(envCert), Key: os.Getenv(envKey)})
	if err != nil {
		return nil, &statusError{exitUsage, "set --ca (or " + envCA + "), " + envCert + " and " + envKey + " to PEM files", err}
	}
	c, err := client.New(url, token, client.WithTLS(secure))
	if err != nil {
		return nil, &statusError{exitUsage, "set " + envURL + " to something like https://freehold.example.com:7400", fmt.Errorf("%s: %w", envURL, err)}
	}
	return c, nil
}

// caFile holds the roots by which the control plane is believed; empty: the system's.
func caFile(cmd *cobra.Command) string {
	if f := cmd.Flag("ca"); f != nil && f.Changed {
		return f.Value.String()
	}
	return os.Getenv(envCA)
}

// connectFor is connect for a command about the thing with an ID, once the ID has passed check.
func connectFor(cmd *cobra.Command, check func(cmd *cobra.Command, id string) error, id string) (*client.Client, error) {
	if err := check(cmd, id); err != nil {
		return nil, err
	}
	return connect(cmd)
}

// aboutTenant is a command that shows something of a tenant, named by its one
// argument. One called list goes by ls, too.
func aboutTenant(use, short string, show func(cmd *cobra.Command, c *client.Client, tenant string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use:               use,
		Short:             short,
		Args:              oneArg("tenant's ID"),
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkTenant, args[0])
			if err != nil {
				return err
			}
			return show(cmd, c, args[0])
		},
	}
	if cmd.Name() == "list" {
		cmd.Aliases = []string{"ls"}
	}
	return cmd
}
