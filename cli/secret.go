package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

func secretCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "secret",
		GroupID: "operate",
		Short:   "List credentials, give new ones for old ones, kill one that leaked",
	}
	cmd.AddCommand(secretListCommand(), secretRotateCommand(), secretRevokeCommand())
	return cmd
}

func secretListCommand() *cobra.Command {
	var f client.SecretFilter
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List credentials: whose, which generation, how old; never a secret",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.Kind != "" && f.Kind != "tenant" && f.Kind != "shard" {
				return &usageError{cmd.CommandPath(), errors.New("--kind: want tenant or shard")}
			}
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			return printList(cmd, c.Secrets(cmd.Context(), f), limit, secretColumns)
		},
	}
	cmd.Flags().StringVar(&f.Kind, "kind", "", "only these: tenant or shard")
	cmd.Flags().StringVar(&f.Tenant, "tenant", "", "only this tenant's")
	cmd.Flags().StringVar(&f.Shard, "shard", "", "only this shard's, and those of the tenants that live there")
	cmd.Flags().IntVar(&limit, "limit", 50, "at most this many; 0: all")
	completeFlag(cmd, "tenant", completeTenants)
	completeFlag(cmd, "shard", completeShards)
	return cmd
}

var secretColumns = []column[api.Secret]{
	{"kind", func(s api.Secret) any { return s.Kind }},
	{"of", func(s api.Secret) any { return s.Name }},
	{"shard", func(s api.Secret) any { return string(s.Shard) }},
	{"login", func(s api.Secret) any { return s.Login }},
	{"generation", func(s api.Secret) any { return s.Generation }},
	{"issued", func(s api.Secret) any { return s.IssuedAt }},
	{"age", func(s api.Secret) any { return took(time.Duration(s.AgeSeconds) * time.Second) }},
	{"operation", func(s api.Secret) any { return s.Operation }},
}

func secretRotateCommand() *cobra.Command {
	var r client.Rotation
	var ch change
	var all, dryRun bool
	cmd := &cobra.Command{
		Use:   "rotate (--tenant ID | --shard ID | --all)",
		Short: "Give new credentials for old ones, while they are used",
		Long: `Give new credentials for old ones, while they are used: no request fails for it.

--tenant gives a tenant's database new logins; the old ones are closed when every
node has gone over. --shard gives a shard another admin login; what began by the
old one may end first. --all does both for the whole fleet, a few at once.

On a terminal the rotation is watched until it is over, elsewhere only with
--wait. Ctrl-C ends the watching; the rotation goes on.`,
		Example: "  tenant-ops secret rotate --tenant acme\n  tenant-ops secret rotate --shard s1 --dry-run\n  tenant-ops secret rotate --all --at-once 8 --wait",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given, instead := 0, "secret rotate --all"
			if all {
				given++
			}
			if r.Tenant != "" {
				given, instead = given+1, "secret rotate --tenant "+r.Tenant
				if err := checkTenant(cmd, r.Tenant); err != nil {
					return err
				}
			}
			if r.Shard != "" {
				given, instead = given+1, "secret rotate --shard "+r.Shard
				if err := checkShard(cmd, r.Shard); err != nil {
					return err
				}
			}
			if given != 1 {
				return &usageError{cmd.CommandPath(), errors.New("say one of --tenant, --shard and --all")}
			}
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			if dryRun {
				plan, err := c.PlanRotation(cmd.Context(), r)
				if err != nil {
					return err
				}
				return printPlan(cmd, plan, instead)
			}
			op, err := c.RotateSecrets(cmd.Context(), r, ch.Change)
			if err != nil {
				return err
			}
			return watchOrLeave(cmd, c, op, ch, "rotating credentials", "secret list")
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Tenant, "tenant", "", "the tenant whose logins to rotate")
	f.StringVar(&r.Shard, "shard", "", "the shard whose admin login to rotate")
	f.BoolVar(&all, "all", false, "every tenant's and every shard's")
	f.IntVar(&r.AtOnce, "at-once", 0, "with --all: how many at the same time; 0: 4")
	f.BoolVar(&dryRun, "dry-run", false, "say what would be done, and change nothing")
	f.BoolVar(&ch.wait, "wait", false, "watch until it is over (the default on a terminal)")
	ch.flags(cmd)
	ch.timeoutFlag(cmd, 24*time.Hour)
	completeFlag(cmd, "tenant", completeTenants)
	completeFlag(cmd, "shard", completeShards)
	return cmd
}

func secretRevokeCommand() *cobra.Command {
	var tenant, shard string
	var ch change
	var yes bool
	cmd := &cobra.Command{
		Use:   "revoke (--tenant ID | --shard ID)",
		Short: "Close logins that leaked at once, and issue new ones",
		Long: `Close logins at once, end their sessions, and issue new ones.

--tenant closes every login to a tenant's database, those that people were given
too; the tenant is served again by the new ones. --shard closes all turns of a
shard's admin login but a new one; operations go on by that. A rotation that is
under way is ended where it stands.

For a credential that leaked: requests and steps under way are cut off, and some
requests may fail. To change credentials without that, see tenant-ops secret rotate.`,
		Example: "  tenant-ops secret revoke --tenant acme --reason \"found in a log\"\n  tenant-ops secret revoke --shard s1",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (tenant == "") == (shard == "") {
				return &usageError{cmd.CommandPath(), errors.New("say one of --tenant and --shard")}
			}
			if shard != "" {
				return revokeShard(cmd, shard, ch, yes)
			}
			if err := checkTenant(cmd, tenant); err != nil {
				return err
			}
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			what := "Every login to the database of tenant " + tenant + " is closed at once; requests under way are cut off."
			if err := confirm(cmd, yes, what, tenant, "the tenant's ID"); err != nil {
				return err
			}
			op, err := c.RevokeSecret(cmd.Context(), tenant, ch.Change)
			if err != nil {
				return err
			}
			return watchOrLeave(cmd, c, op, ch, "revoking the credentials of "+tenant, "secret list --tenant "+tenant)
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "the tenant whose credentials leaked")
	cmd.Flags().StringVar(&shard, "shard", "", "the shard whose admin login leaked")
	cmd.Flags().BoolVar(&ch.wait, "wait", false, "watch until it is over (the default on a terminal)")
	yesFlag(cmd, &yes)
	ch.flags(cmd)
	ch.timeoutFlag(cmd, time.Hour)
	completeFlag(cmd, "tenant", completeTenants)
	completeFlag(cmd, "shard", completeShards)
	return cmd
}

func revokeShard(cmd *cobra.Command, shard string, ch change, yes bool) error {
	if err := checkShard(cmd, shard); err != nil {
		return err
	}
	c, err := connect(cmd)
	if err != nil {
		return err
	}
	what := "Shard " + shard + " gets another admin login, and all others are closed at once; what works by them is cut off and tried again."
	if err := confirm(cmd, yes, what, shard, "the shard's ID"); err != nil {
		return err
	}
	op, err := c.RevokeShardSecret(cmd.Context(), shard, ch.Change)
	if err != nil {
		return err
	}
	return watchOrLeave(cmd, c, op, ch, "revoking the admin login of "+shard, "secret list --shard "+shard)
}
