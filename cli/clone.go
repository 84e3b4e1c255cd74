package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/clone"
)

func tenantCloneCommand() *cobra.Command {
	var in api.CloneTenant
	var ch change
	cmd := &cobra.Command{
		Use:   "clone ID NEW-ID",
		Short: "Make a new tenant with the contents of another, while that one is served",
		Long: `Make a new tenant with the contents of another, as they are at one moment, while
that one is served. The source is only read.

The new tenant has a database, roles, logins and secrets of its own. It gets the
source's plan, limits, attributes, exposed schemas, policies, roles and needs of
region, class and labels, but none of its API keys, issuers and temporary logins:
who may come to the one need not be let into the other.

With --schema-only the application's rows stay behind. --dry-run walks the same
steps, changes nothing, and says what each would do or why it would be refused.`,
		Example:           "  tenant-ops tenant clone acme acme-staging\n  tenant-ops tenant clone acme acme-staging --to s2 --wait\n  tenant-ops tenant clone acme acme-empty --schema-only",
		Args:              twoArgs("source's ID", "new tenant's ID"),
		ValidArgsFunction: completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, id := range args {
				if err := checkTenant(cmd, id); err != nil {
					return err
				}
			}
			if in.To != "" {
				if err := checkShard(cmd, in.To); err != nil {
					return err
				}
			}
			if err := checkPace(cmd, &in.Pace); err != nil {
				return err
			}
			in.ID = args[1]
			c, err := connect(cmd)
			if err != nil {
				return err
			}
			if in.DryRun {
				plan, err := c.PlanClone(cmd.Context(), args[0], in)
				if err != nil {
					return err
				}
				return printPlan(cmd, plan, "tenant clone "+args[0]+" "+args[1])
			}
			op, err := c.CloneTenant(cmd.Context(), args[0], in, ch.Change)
			if err != nil {
				return err
			}
			return watchOrLeave(cmd, c, op, ch, fmt.Sprintf("cloning %s to %s", args[0], args[1]), "tenant show "+args[1], "apikey create "+args[1])
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.To, "to", "", "the shard that it is to live on (default the source's)")
	f.StringVar(&in.DisplayName, "name", "", "display name of the new tenant")
	f.BoolVar(&in.SchemaOnly, "schema-only", false, "leave the application's rows behind")
	f.Var(sizeFlag{&in.MaxBytesPerS}, "max-rate", "copy no more than this a second over the wire, like 50MB; 0: as much as the servers bear")
	paceFlag(cmd, &in.Pace)
	f.BoolVar(&in.DryRun, "dry-run", false, "say what would be done, and change nothing")
	f.BoolVar(&ch.wait, "wait", false, "watch until it is over (the default on a terminal)")
	ch.flags(cmd)
	ch.timeoutFlag(cmd, 24*time.Hour)
	completeFlag(cmd, "to", completeShards)
	return cmd
}

// printClone prints a clone's receipt in words; false: it is none.
func printClone(out io.Writer, op api.Operation) bool {
	var r clone.Receipt
	if op.Kind != clone.Kind || json.Unmarshal(op.Receipt, &r) != nil || r.Tenant == "" {
		return false
	}
	fmt.Fprintln(out, "\nreceipt")
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "  %-13s %s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	if r.Placement != nil {
		line("cloned", "%s on %s to %s on %s", r.Source, r.From.Shard, r.Tenant, r.Placement.Shard)
	}
	what := ""
	if r.SchemaOnly {
		what = " (the schema, and no rows of the application)"
	}
	line("copied", "%d rows, %s in %d tables%s", r.Rows, size(r.Bytes), r.Tables, what)
	line("verification", "%s", r.Verification)
	if r.SnapshotAt != nil {
		line("as of", "%s", r.SnapshotAt.UTC().Format(time.RFC3339))
	}
	for _, w := range r.Warnings {
		line("warning", "%s", w)
	}
	for _, n := range r.Notes {
		line("note", "%s", n)
	}
	return true
}
