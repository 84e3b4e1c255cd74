package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/shardmap"
)

func tenantCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tenant",
		Aliases: []string{"tenants"},
		Short:   "Create, look at, move and end tenants",
		GroupID: "operate",
	}
	cmd.AddCommand(tenantCreateCommand(), tenantListCommand(), tenantTopCommand(), tenantShowCommand(), tenantExplainCommand(), tenantNeedsCommand(), tenantMoveCommand(), tenantCloneCommand(),
		tenantVerbCommand("suspend", "Close a tenant: its requests are refused, its sessions end", (*client.Client).SuspendTenant,
			"tenant resume %s"),
		tenantVerbCommand("resume", "Open a suspended tenant", (*client.Client).ResumeTenant, "tenant show %s"),
		tenantVerbCommand("restore", "Bring a deleted tenant back within its grace period", (*client.Client).RestoreTenant, "tenant show %s"),
		tenantDeleteCommand(), tenantAccessCommand(), tenantSetCommand(), tenantPsqlCommand(), tenantDSNCommand(), tenantBreakGlassCommand(), tenantLabelCommand(),
		tenantExportCommand(), tenantCopiesCommand(), tenantImportCommand(), tenantEraseCommand(), tenantErasureCommand(), tenantKeyCommand())
	return cmd
}

var tenantColumns = []column[api.Tenant]{
	{"id", func(t api.Tenant) any { return t.ID }},
	{"name", func(t api.Tenant) any { return t.DisplayName }},
	{"state", func(t api.Tenant) any { return t.State }},
	{"shard", func(t api.Tenant) any { return t.Shard }},
	{"epoch", func(t api.Tenant) any { return t.Epoch }},
	{"created", func(t api.Tenant) any { return t.CreatedAt }},
}

var tenantDetails = append(append([]column[api.Tenant]{}, tenantColumns...),
	column[api.Tenant]{"labels", func(t api.Tenant) any { return labelText(t.Labels) }},
	column[api.Tenant]{"database", func(t api.Tenant) any { return t.Database }},
	column[api.Tenant]{"deleted", func(t api.Tenant) any { return t.DeletedAt }},
	column[api.Tenant]{"restorable until", func(t api.Tenant) any { return t.PurgeAfter }},
	column[api.Tenant]{"purged", func(t api.Tenant) any { return t.PurgedAt }},
	column[api.Tenant]{"erased", func(t api.Tenant) any { return t.ErasedAt }},
)

// change is the flags that every mutation has.
type change struct {
	client.Change
	wait    bool
	timeout time.Duration
}

func (c *change) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.Reason, "reason", "", "why; it goes into the audit log")
	cmd.Flags().StringVar(&c.Key, "request-key", "", "makes it safe to run again: the same key is done once (default a fresh one)")
}

// waiting adds the flags of a mutation that is an operation.
func (c *change) waiting(cmd *cobra.Command) {
	c.flags(cmd)
	cmd.Flags().BoolVar(&c.wait, "wait", true, "wait until it is over")
	c.timeoutFlag(cmd, 5*time.Minute)
}

func (c *change) timeoutFlag(cmd *cobra.Command, d time.Duration) {
	cmd.Flags().DurationVar(&c.timeout, "timeout", d, "longest wait; what was begun goes on after it")
}

func tenantCreateCommand() *cobra.Command {
	var in api.CreateTenant
	var needs api.Needs
	var labelled []string
	var ch change
	cmd := &cobra.Command{
		Use:     "create ID",
		Short:   "Create a tenant with a database of its own",
		Long:    "Create a tenant with a database of its own, made of the newest application schema,\nits roles and its login. An ID is a lower-case letter, then up to 46 of a-z, 0-9 and '-';\nit is never used again, not even after the tenant was deleted.\n\nIt is put on the shard that the planner would choose. What it needs of its shard is\nkept, and holds when it is moved.",
		Example: "  tenant-ops tenant create acme\n  tenant-ops tenant create acme --name \"Acme Inc.\" --shard s2\n  tenant-ops tenant create bank --region eu --require disk=nvme --apart banks",
		Args:    oneArg("tenant's ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.ID = args[0]
			labels, away, err := labelChanges(labelled)
			if err != nil || len(away) > 0 {
				return &usageError{cmd.CommandPath(), errors.Join(errors.New("--label: want NAME=VALUE"), err)}
			}
			in.Labels = labels
			if wanted, declared := changeNeeds(cmd.Flags(), api.Needs{}, needs); declared {
				in.Needs = &wanted
			}
			c, err := connectFor(cmd, checkTenant, args[0])
			if err != nil {
				return err
			}
			op, err := c.CreateTenant(cmd.Context(), in, ch.Change)
			if err != nil {
				return err
			}
			return finishTenant(cmd, c, ch, op, "tenant psql %s", "token --tenant %s --role editor")
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.DisplayName, "name", "", "display name")
	f.StringArrayVar(&labelled, "label", nil, "NAME=VALUE, see tenant label; may be given more than once")
	f.StringVar(&in.Shard, "shard", "", "this shard and no other (default the best that fits)")
	needsFlags(f, &needs)
	ch.waiting(cmd)
	completeFlag(cmd, "shard", completeShards)
	return cmd
}

func tenantListCommand() *cobra.Command {
	var f client.TenantFilter
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List tenants",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			return printList(cmd, c.Tenants(cmd.Context(), f), limit, tenantColumns)
		},
	}
	cmd.Flags().StringVar(&f.State, "state", "", "only active, suspended or deleted ones")
	cmd.Flags().StringVar(&f.Shard, "shard", "", "only those on this shard")
	cmd.Flags().StringVar(&f.Contains, "match", "", "only those with this in their ID or name")
	cmd.Flags().StringVar(&f.Label, "label", "", "only those that bear all of NAME=VALUE,NAME=VALUE…")
	cmd.Flags().BoolVar(&f.Purged, "purged", false, "also those that are gone for good")
	limitFlag(cmd, &limit)
	completeFlag(cmd, "shard", completeShards)
	completeFlag(cmd, "state", cobra.FixedCompletions([]string{"active", "suspended", "deleted"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func limitFlag(cmd *cobra.Command, limit *int) {
	cmd.Flags().IntVar(limit, "limit", 1000, "at most this many; 0: all")
}

func tenantShowCommand() *cobra.Command {
	return aboutTenant("show ID", "Show a tenant and where it lives", func(cmd *cobra.Command, c *client.Client, tenant string) error {
		t, err := c.Tenant(cmd.Context(), tenant)
		if err != nil {
			return err
		}
		return printOne(cmd, t, tenantDetails)
	})
}

type tenantVerb = func(c *client.Client, ctx context.Context, id string, ch client.Change) (api.Operation, error)

func tenantVerbCommand(verb, short string, do tenantVerb, after ...string) *cobra.Command {
	var ch change
	cmd := &cobra.Command{
		Use:               verb + " ID",
		Short:             short,
		Args:              oneArg("tenant's ID"),
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeTenant(cmd, args[0], ch, do, after...)
		},
	}
	ch.waiting(cmd)
	return cmd
}

func changeTenant(cmd *cobra.Command, id string, ch change, do tenantVerb, after ...string) error {
	c, err := connectFor(cmd, checkTenant, id)
	if err != nil {
		return err
	}
	op, err := do(c, cmd.Context(), id, ch.Change)
	if err != nil {
		return err
	}
	return finishTenant(cmd, c, ch, op, after...)
}

// finishTenant waits for the operation if it is wanted, and shows the tenant as it is then.
func finishTenant(cmd *cobra.Command, c *client.Client, ch change, op api.Operation, after ...string) error {
	if !op.Final() && !ch.wait {
		if err := printOne(cmd, op, operationColumns); err != nil {
			return err
		}
		next(cmd, "op watch "+op.ID)
		return nil
	}
	op, err := await(cmd, c, op, ch.timeout)
	if err != nil {
		return err
	}
	t, err := c.Tenant(cmd.Context(), string(op.Tenant))
	if err != nil {
		return err
	}
	if err := printOne(cmd, t, tenantDetails); err != nil {
		return err
	}
	for _, a := range after {
		next(cmd, fmt.Sprintf(a, t.ID))
	}
	return nil
}

func tenantDeleteCommand() *cobra.Command {
	var ch change
	var yes bool
	cmd := &cobra.Command{
		Use:               "delete ID",
		Short:             "End a tenant; it can be restored within its grace period",
		Long:              "End a tenant: its requests are refused and its sessions end at once. Until its\ngrace period is over it can be restored as it was; then its database is dropped\nfor good. Its ID is never used again.",
		Args:              oneArg("tenant's ID"),
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTenant(cmd, args[0]); err != nil {
				return err
			}
			if !yes {
				if err := confirmDelete(cmd, args[0]); err != nil {
					return err
				}
			}
			return changeTenant(cmd, args[0], ch, (*client.Client).DeleteTenant, "tenant restore %s")
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask for the name")
	ch.waiting(cmd)
	return cmd
}

// confirmDelete says what will happen and wants the tenant's ID typed.
func confirmDelete(cmd *cobra.Command, id string) error {
	c, err := connect(cmd)
	if err != nil {
		return err
	}
	t, err := c.Tenant(cmd.Context(), id)
	if err != nil {
		return err
	}
	name := ""
	if t.DisplayName != "" && t.DisplayName != id {
		name = " (" + clean(t.DisplayName) + ")"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), `This ends tenant %s%s on shard %s:
  - its requests are refused and its sessions end at once
  - within the grace period `+"`tenant-ops tenant restore %s`"+` brings it back as it is now
  - after it, its database is dropped for good, and the ID is never used again
Type the tenant's ID to go on: `, id, name, t.Shard, id)
	return typed(cmd, id, "the tenant's ID", "deleted")
}

// confirm says what a command is about to do, unless yes, and wants word typed.
func confirm(cmd *cobra.Command, yes bool, what, word, name string) error {
	if yes {
		return nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s\nType %s to go on: ", clean(what), name)
	return typed(cmd, word, name, "changed")
}

// typed wants word, which people know as name, on the standard input.
func typed(cmd *cobra.Command, word, name, done string) error {
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if strings.TrimSpace(line) == word {
		return nil
	}
	fmt.Fprintln(cmd.ErrOrStderr())
	if err != nil && strings.TrimSpace(line) == "" {
		return &statusError{exitUsage, "say --yes to go on without being asked", fmt.Errorf("nobody typed %s; nothing was %s", name, done)}
	}
	return &statusError{exitRefused, "type it exactly, or say --yes", fmt.Errorf("what was typed is not %s; nothing was %s", name, done)}
}

func yesFlag(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVar(yes, "yes", false, "do not ask")
}

// checkTenant refuses a malformed ID before anything is asked.
func checkTenant(cmd *cobra.Command, id string) error {
	if _, err := shardmap.ParseTenantID(id); err != nil {
		return &usageError{cmd.CommandPath(), err}
	}
	return nil
}

func checkShard(cmd *cobra.Command, id string) error {
	if _, err := shardmap.ParseShardID(id); err != nil {
		return &usageError{cmd.CommandPath(), err}
	}
	return nil
}
