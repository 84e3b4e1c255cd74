package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/erase"
)

func tenantEraseCommand() *cobra.Command {
	var ch change
	var yes bool
	cmd := &cobra.Command{
		Use:   "erase ID --reason WHY",
		Short: "Make a tenant unrecoverable, with a signed certificate",
		Long: `Make a tenant unrecoverable: its database is dropped at every place, with logins
and API keys, and the key is destroyed that its copies are sealed under, so that
nobody can read those any more, wherever they are. There is no grace and no way
back, and the ID is never used again. When all of it is done a certificate is
signed: tenant erasure shows it.`,
		Example:           "  tenant-ops tenant erase acme --reason \"contract ended, GDPR article 17\"",
		Args:              oneArg("tenant's ID"),
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(ch.Reason) == "" {
				return &usageError{cmd.CommandPath(), errors.New("--reason is missing: the certificate says why")}
			}
			c, err := connectFor(cmd, checkTenant, args[0])
			if err != nil {
				return err
			}
			if !yes {
				if err := confirmErase(cmd, c, args[0]); err != nil {
					return err
				}
			}
			op, err := c.EraseTenant(cmd.Context(), args[0], ch.Change)
			if err != nil {
				return err
			}
			return watchOrLeave(cmd, c, op, ch, "erasing "+args[0], "tenant erasure "+args[0])
		},
	}
	f := cmd.Flags()
	f.BoolVar(&yes, "yes", false, "do not ask for the name")
	f.BoolVar(&ch.wait, "wait", true, "watch until it is over; a shard that is away is waited for")
	ch.flags(cmd)
	ch.timeoutFlag(cmd, time.Hour)
	return cmd
}

// confirmErase says what will be lost and wants the tenant's ID typed.
func confirmErase(cmd *cobra.Command, c *client.Client, id string) error {
	t, err := c.Tenant(cmd.Context(), id)
	if err != nil {
		return err
	}
	n := 0
	for _, err := range c.Copies(cmd.Context(), id, true) {
		if err != nil {
			return err
		}
		n++
	}
	fmt.Fprintf(cmd.ErrOrStderr(), `This makes tenant %s on shard %s unrecoverable:
  - its database is dropped at every place, at once and without a grace period
  - its key is destroyed: the %d sealed copies of it can't be read any more, wherever they are
  - nothing brings it back, and the ID is never used again
Type the tenant's ID to go on: `, id, t.Shard, n)
	return typed(cmd, id, "the tenant's ID", "erased")
}

func tenantErasureCommand() *cobra.Command {
	var out string
	cmd := aboutTenant("erasure ID", "Show the certificate of an erased tenant", func(cmd *cobra.Command, c *client.Client, tenant string) error {
		e, err := c.Erasure(cmd.Context(), tenant)
		if err != nil {
			return err
		}
		if out == "" {
			_, err = fmt.Fprint(cmd.OutOrStdout(), e.Certificate)
			return err
		}
		if err := os.WriteFile(out, []byte(e.Certificate), 0o600); err != nil {
			return err
		}
		next(cmd, "tenant erasure verify "+out+" --key KEY")
		return nil
	})
	cmd.Flags().StringVar(&out, "out", "", "write it to this file")
	cmd.AddCommand(erasureVerifyCommand(), erasureKeyCommand())
	return cmd
}

func erasureKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "key",
		Short: "Show the public key that this fleet's certificates are verified with",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			k, err := c.ErasureKey(cmd.Context())
			if err != nil {
				return err
			}
			return printOne(cmd, k, []column[api.ErasureKey]{{"public key", func(k api.ErasureKey) any { return k.PublicKey }}})
		},
	}
}

func erasureVerifyCommand() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "verify FILE --key KEY",
		Short: "Check a certificate of erasure, without a fleet",
		Long: `Check a certificate of erasure against the fleet's public key: as text, or the name of
a file that holds it. Nothing else is asked, so get the key from whom you trust (tenant erasure key).`,
		Args: oneArg("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := os.ReadFile(filepath.Clean(args[0]))
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			text := key
			if content, err := os.ReadFile(filepath.Clean(key)); err == nil {
				text = string(content)
			}
			public, err := erase.ParsePublicKey(text)
			if err != nil {
				return &usageError{cmd.CommandPath(), fmt.Errorf("--key: %w", err)}
			}
			c, err := erase.Verify(file, public)
			if err != nil {
				return &statusError{exitRefused, "ask who issued it for the certificate and the key", fmt.Errorf("%s: %w", args[0], err)}
			}
			return printOne(cmd, c, certificateColumns)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the fleet's public key, or a file with it")
	_ = cmd.MarkFlagRequired("key")
	return cmd
}

var certificateColumns = []column[erase.Certificate]{
	{"tenant", func(c erase.Certificate) any { return c.Tenant }},
	{"signature", func(erase.Certificate) any { return "good" }},
	{"fleet", func(c erase.Certificate) any { return c.Fleet }},
	{"requested by", func(c erase.Certificate) any { return c.RequestedBy }},
	{"reason", func(c erase.Certificate) any { return c.Reason }},
	{"key destroyed", func(c erase.Certificate) any { return c.Key.DestroyedAt }},
	{"places", func(c erase.Certificate) any {
		var places []string
		for _, p := range c.Places {
			places = append(places, string(p.Shard))
		}
		return strings.Join(places, ", ")
	}},
	{"unreadable copies", func(c erase.Certificate) any { return len(c.Copies) }},
	{"issued", func(c erase.Certificate) any { return c.IssuedAt }},
}

var tenantKeyColumns = []column[api.TenantKey]{
	{"key", func(k api.TenantKey) any { return k.Name }},
	{"destroyed", func(k api.TenantKey) any { return k.Destroyed }},
	{"rotations", func(k api.TenantKey) any { return k.Rotations }},
	{"rotated", func(k api.TenantKey) any { return k.RotatedAt }},
	{"by", func(k api.TenantKey) any { return k.RotatedBy }},
	{"copies", func(k api.TenantKey) any { return k.Copies }},
}

func tenantKeyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "The key that a tenant's copies are sealed under"}
	show := aboutTenant("show ID", "Show what is known of a tenant's key", func(cmd *cobra.Command, c *client.Client, tenant string) error {
		k, err := c.TenantKey(cmd.Context(), tenant)
		if err != nil {
			return err
		}
		return printOne(cmd, k, tenantKeyColumns)
	})
	var ch change
	rotate := &cobra.Command{
		Use:               "rotate ID",
		Short:             "Give a tenant's key a new version, and wrap the keys of its copies by it",
		Args:              oneArg("tenant's ID"),
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkTenant, args[0])
			if err != nil {
				return err
			}
			op, err := c.RotateTenantKey(cmd.Context(), args[0], ch.Change)
			if err != nil {
				return err
			}
			return watchOrLeave(cmd, c, op, ch, "rotating the key of "+args[0], "tenant key show "+args[0])
		},
	}
	rotate.Flags().BoolVar(&ch.wait, "wait", true, "watch until it is over")
	ch.flags(rotate)
	ch.timeoutFlag(rotate, time.Hour)
	cmd.AddCommand(show, rotate)
	return cmd
}
