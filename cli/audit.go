package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "audit",
		Short:   "Look at who did what, and check that nobody changed the log of it",
		GroupID: "operate",
	}
	cmd.AddCommand(auditListCommand(), auditTailCommand(), auditExportCommand(), auditVerifyCommand(), auditCheckpointCommand())
	return cmd
}

var auditColumns = []column[api.AuditEntry]{
	{"position", func(e api.AuditEntry) any { return e.Position }},
	{"time", func(e api.AuditEntry) any { return e.Time }},
	{"actor", func(e api.AuditEntry) any { return e.Actor }},
	{"action", func(e api.AuditEntry) any { return e.Action }},
	{"object", func(e api.AuditEntry) any { return e.Object }},
	{"outcome", func(e api.AuditEntry) any { return e.Outcome }},
	{"reason", func(e api.AuditEntry) any { return e.Reason }},
}

func auditListCommand() *cobra.Command {
	var q auditQuery
	var limit int
	var prove bool
	var keys string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the audit log, newest first",
		Long: `List the audit log, newest first.

With --prove each record of the tenant comes with a proof that it is in the
signed log, which is checked here against the keys of --keys: the control plane
is not believed.`,
		Example: "  tenant-ops audit list --tenant acme\n  tenant-ops audit list --since 24h -o csv\n  tenant-ops audit list --tenant acme --prove --keys audit.keys",
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := q.filter(cmd)
			if err != nil {
				return err
			}
			if prove && f.Tenant == "" {
				return &usageError{cmd.CommandPath(), errors.New("--prove: whose records? name a --tenant")}
			}
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			if !prove {
				return printList(cmd, c.Audit(cmd.Context(), f), limit, auditColumns)
			}
			believed, err := auditKeys(cmd, c, keys)
			if err != nil {
				return err
			}
			columns := append(auditColumns[:len(auditColumns):len(auditColumns)], column[api.AuditEntry]{"proof", proofOf})
			return printList(cmd, proved(c.TenantAudit(cmd.Context(), f.Tenant, f), believed), limit, columns)
		},
	}
	q.flags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 50, "at most this many; 0: all")
	cmd.Flags().BoolVar(&prove, "prove", false, "check a proof of each record (with --tenant)")
	cmd.Flags().StringVar(&keys, "keys", "", "file with the verifier keys to believe; without it those that the control plane publishes")
	return cmd
}

// auditQuery is a filter as the command line has it.
type auditQuery struct {
	client.AuditFilter
	from, until string
}

func (q *auditQuery) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&q.Tenant, "tenant", "", "only what concerns this tenant")
	cmd.Flags().StringVar(&q.Actor, "actor", "", "only what this actor did")
	cmd.Flags().StringVar(&q.Action, "action", "", "only this action, like tenant.move")
	cmd.Flags().StringVar(&q.from, "since", "", "not before this: a time (RFC 3339), or how long ago (24h)")
	cmd.Flags().StringVar(&q.until, "until", "", "before this")
	completeFlag(cmd, "tenant", completeTenants)
}

func (q *auditQuery) filter(cmd *cobra.Command) (f client.AuditFilter, err error) {
	f = q.AuditFilter
	if f.From, err = instant(q.from); err != nil {
		return f, &usageError{cmd.CommandPath(), fmt.Errorf("--since: %w", err)}
	}
	if f.Until, err = instant(q.until); err != nil {
		return f, &usageError{cmd.CommandPath(), fmt.Errorf("--until: %w", err)}
	}
	return f, nil
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
