package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

var breakGlassColumns = []column[api.BreakGlass]{
	{"id", func(b api.BreakGlass) any { return b.ID }},
	{"tenant", func(b api.BreakGlass) any { return b.Tenant }},
	{"as", func(b api.BreakGlass) any { return b.As }},
	{"state", func(b api.BreakGlass) any { return b.State }},
	{"by", func(b api.BreakGlass) any { return b.AskedBy }},
	{"approved", func(b api.BreakGlass) any { return b.ApprovedBy }},
	{"reason", func(b api.BreakGlass) any { return b.Reason }},
	{"until", func(b api.BreakGlass) any { return b.ExpiresAt }},
	{"sessions", func(b api.BreakGlass) any { return b.Sessions }},
	{"ended", func(b api.BreakGlass) any { return b.EndedAt }},
	{"cause", func(b api.BreakGlass) any { return b.Cause }},
}

func tenantBreakGlassCommand() *cobra.Command {
	var reason, as string
	var lasts time.Duration
	var write, pooled bool
	cmd := &cobra.Command{
		Use:   "break-glass ID --reason WHY [--for 30m] [--write]",
		Short: "Open a tenant's database, for a reason and a time",
		Long: `Open a tenant's database with a login that ends by itself, and print a connection
URL, this once. It reads only, unless --write (or --as owner) is said. Who opened
it, why, each session, and its end are in the audit log, which the tenant's own
auditor sees, too. Where the fleet wants another person's consent the request
waits for it: somebody else runs break-glass approve, then you run break-glass open.`,
		Example: "  psql \"$(tenant-ops tenant break-glass acme --reason 'INC-42 orders are missing' --for 30m)\"\n" +
			"  tenant-ops tenant break-glass acme --reason 'INC-42 mend orders' --for 30m --write",
		Args:              oneArg("tenant's ID"),
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return &usageError{cmd.CommandPath(), errors.New("--reason: why?")}
			}
			if lasts < time.Second || lasts > 24*time.Hour {
				return &usageError{cmd.CommandPath(), fmt.Errorf("--for %s: want 1s to 24h", lasts)}
			}
			switch {
			case write && as != "":
				return &usageError{cmd.CommandPath(), errors.New("--write and --as don't go together")}
			case write:
				as = "rw"
			case as != "" && as != "owner" && as != "rw" && as != "ro":
				return &usageError{cmd.CommandPath(), fmt.Errorf("--as %q: want owner, rw or ro", as)}
			}
			c, err := connectFor(cmd, checkTenant, args[0])
			if err != nil {
				return err
			}
			b, err := c.AskBreakGlass(cmd.Context(), args[0], api.GrantAccess{As: as, TTLSeconds: int(lasts / time.Second)}, reason)
			if err != nil {
				return err
			}
			return printOpened(cmd, b, pooled)
		},
	}
	f := cmd.Flags()
	f.StringVar(&reason, "reason", "", "why; it goes into the audit log")
	f.DurationVar(&lasts, "for", 30*time.Minute, "how long")
	f.BoolVar(&write, "write", false, "write rows, too")
	f.StringVar(&as, "as", "", "work as owner, rw or ro (default ro)")
	f.BoolVar(&pooled, "pooled", false, "through the shard's PgBouncer")
	mustGive(cmd, "reason")
	completeFlag(cmd, "as", cobra.FixedCompletions([]string{"owner", "rw", "ro"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// printOpened prints the connection URL alone, and what to do next beside it.
func printOpened(cmd *cobra.Command, b api.OpenedBreakGlass, pooled bool) error {
	if f := outputFormat(cmd); f == asJSON || f == asYAML {
		return printDocument(cmd.OutOrStdout(), f, b)
	}
	if b.Access == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "waits until %s for another person's consent\n", b.ExpiresAt.Local().Format(time.DateTime))
		if err := printOne(cmd, b.BreakGlass, breakGlassColumns); err != nil {
			return err
		}
		next(cmd, "break-glass approve "+b.ID, "break-glass open "+b.ID)
		return nil
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), dsnOf(*b.Access, pooled, libpqTLS(cmd))); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "works as %s until %s\n", b.Access.As, b.Access.ExpiresAt.Local().Format(time.DateTime))
	next(cmd, "break-glass end "+b.ID)
	return nil
}

func breakGlassCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "break-glass", Short: "See, approve, open and end people's access to tenants' databases", GroupID: "operate"}
	cmd.AddCommand(breakGlassListCommand(),
		aboutBreakGlass("show ID", "Show one access", func(cmd *cobra.Command, c *client.Client, id string, _ client.Change) (api.BreakGlass, error) {
			return c.GetBreakGlass(cmd.Context(), id)
		}, false),
		aboutBreakGlass("approve ID", "Consent to another person's request", func(cmd *cobra.Command, c *client.Client, id string, ch client.Change) (api.BreakGlass, error) {
			return c.ApproveBreakGlass(cmd.Context(), id, ch)
		}, true),
		breakGlassOpenCommand(),
		aboutBreakGlass("end ID", "End an access now: its sessions, and its login", func(cmd *cobra.Command, c *client.Client, id string, ch client.Change) (api.BreakGlass, error) {
			return c.EndBreakGlass(cmd.Context(), id, ch)
		}, true))
	return cmd
}

func breakGlassListCommand() *cobra.Command {
	var tenant string
	var live bool
	limit := 0
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List accesses, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if tenant != "" {
				if err := checkTenant(cmd, tenant); err != nil {
					return err
				}
			}
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			return printList(cmd, c.BreakGlass(cmd.Context(), tenant, live), limit, breakGlassColumns)
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "only this tenant's")
	cmd.Flags().BoolVar(&live, "live", false, "only those that have not ended")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many; 0: all")
	completeFlag(cmd, "tenant", completeTenants)
	return cmd
}

func checkBreakGlass(cmd *cobra.Command, id string) error {
	if uuid.Validate(id) != nil {
		return &usageError{cmd.CommandPath(), errors.New("that is not the ID of an access, as `break-glass list` shows")}
	}
	return nil
}

func aboutBreakGlass(use, short string, do func(cmd *cobra.Command, c *client.Client, id string, ch client.Change) (api.BreakGlass, error), changes bool) *cobra.Command {
	var ch change
	cmd := &cobra.Command{
		Use: use, Short: short, Args: oneArg("access' ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkBreakGlass, args[0])
			if err != nil {
				return err
			}
			b, err := do(cmd, c, args[0], ch.Change)
			if err != nil {
				return err
			}
			return printOne(cmd, b, breakGlassColumns)
		},
	}
	if changes {
		ch.flags(cmd)
	}
	return cmd
}

func breakGlassOpenCommand() *cobra.Command {
	var pooled bool
	cmd := &cobra.Command{
		Use: "open ID", Short: "Open what you asked for, once it is approved; prints a connection URL, this once", Args: oneArg("access' ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connectFor(cmd, checkBreakGlass, args[0])
			if err != nil {
				return err
			}
			b, err := c.OpenBreakGlass(cmd.Context(), args[0], "")
			if err != nil {
				return err
			}
			return printOpened(cmd, b, pooled)
		},
	}
	cmd.Flags().BoolVar(&pooled, "pooled", false, "through the shard's PgBouncer")
	return cmd
}
