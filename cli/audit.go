package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "audit",
		Short:   "Look at who did what",
		GroupID: "operate",
	}
	cmd.AddCommand(auditListCommand())
	return cmd
}

func auditListCommand() *cobra.Command {
	var f client.AuditFilter
	var from, until string
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the audit log, newest first",
		Example: "  tenant-ops audit list --tenant acme\n  tenant-ops audit list --since 24h -o csv",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if f.From, err = instant(from); err != nil {
				return &usageError{cmd.CommandPath(), fmt.Errorf("--since: %w", err)}
			}
			if f.Until, err = instant(until); err != nil {
				return &usageError{cmd.CommandPath(), fmt.Errorf("--until: %w", err)}
			}
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			return printList(cmd, c.Audit(cmd.Context(), f), limit, []column[api.AuditEntry]{
				{"position", func(e api.AuditEntry) any { return e.Position }},
				{"time", func(e api.AuditEntry) any { return e.Time }},
				{"actor", func(e api.AuditEntry) any { return e.Actor }},
				{"action", func(e api.AuditEntry) any { return e.Action }},
				{"object", func(e api.AuditEntry) any { return e.Object }},
				{"outcome", func(e api.AuditEntry) any { return e.Outcome }},
				{"reason", func(e api.AuditEntry) any { return e.Reason }},
			})
		},
	}
	cmd.Flags().StringVar(&f.Tenant, "tenant", "", "only what concerns this tenant")
	cmd.Flags().StringVar(&f.Actor, "actor", "", "only what this actor did")
	cmd.Flags().StringVar(&f.Action, "action", "", "only this action, like tenant.move")
	cmd.Flags().StringVar(&from, "since", "", "not before this: a time (RFC 3339), or how long ago (24h)")
	cmd.Flags().StringVar(&until, "until", "", "before this")
	cmd.Flags().IntVar(&limit, "limit", 50, "at most this many; 0: all")
	completeFlag(cmd, "tenant", completeTenants)
	return cmd
}

// instant is a time, or that long ago.
func instant(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%q is neither a time like 2026-01-31T12:00:00Z nor a duration like 24h", s)
	}
	return t, nil
}
