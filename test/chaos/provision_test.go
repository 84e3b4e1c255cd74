package chaos

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/controlplane"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/test/fleet"
)

// inProvisioning are the points at which each step of a tenant's life has done
// its work and recorded nothing of it yet, and those just after a step that
// commits in the middle of its work. Each list goes on from where the one before left the tenant.
var inProvisioning = []struct {
	verb   string
	points []string
	state  string // of the tenant in the end
}{
	{"create", []string{"tenant-create/reserve/end", "tenant-create/reserve/committed", "tenant-create/roles/end", "tenant-create/database/end", "tenant-create/assign/end", "tenant-create/assign/committed"}, "active"},
	{"suspend", []string{"tenant-suspend/state/end", "tenant-suspend/fence/begin", "tenant-suspend/fence/end"}, "suspended"},
	{"resume", []string{"tenant-resume/open/end", "tenant-resume/state/end", "tenant-resume/state/committed"}, "active"},
	{"delete", []string{"tenant-delete/state/committed", "tenant-delete/fence/end"}, "deleted"},
	{"restore", []string{"tenant-restore/open/end", "tenant-restore/state/end"}, "active"},
}

// TestControlPlaneKilledInATenantsLife kills the control plane in every step of
// a tenant's creation, suspension, resumption, deletion and restoration.
func TestControlPlaneKilledInATenantsLife(t *testing.T) {
	f := fleet.Start(t, dev.Options{Shards: 1, Nodes: 1, ControlPlane: func(c *controlplane.Config) { c.WarmPool = -1 }})
	for _, life := range inProvisioning {
		for i, point := range life.points {
			id := "victim"
			if life.verb == "create" && i > 0 {
				id += string(rune('a' + i))
			}
			if life.verb != "create" && i > 0 { // back to where the verb begins
				op, err := start(t, f, opposite[life.verb], id, client.Change{})
				require.NoError(t, err)
				f.Wait(t, op, settleFor)
			}
			ok := t.Run(point, func(t *testing.T) { killIn(t, f, life.verb, id, point, life.state) })
			if !ok {
				return // the fleet may be anywhere
			}
		}
	}
	// Nothing was made twice, and nothing is left over.
	made := len(inProvisioning[0].points)
	conn := f.Postgres(t, "s1", "postgres")
	require.Eventually(t, func() bool {
		var databases, strays int
		err := conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_database WHERE datname LIKE 't\_%'),
			(SELECT count(*) FROM pg_roles WHERE rolname ~ '^t_[0-9a-f]{16}$' AND NOT EXISTS (SELECT FROM pg_database WHERE datname = rolname))`).Scan(&databases, &strays)
		return err == nil && databases == made && strays == 0
	}, settleFor, 100*time.Millisecond)
}

// opposite is the verb that takes a tenant back to where a verb begins.
var opposite = map[string]string{"suspend": "resume", "resume": "suspend", "delete": "restore", "restore": "delete"}

// start begins a verb and returns its operation.
func start(t *testing.T, f *fleet.Fleet, verb, id string, change client.Change) (operation string, err error) {
	t.Helper()
	var op api.Operation
	switch verb {
	case "create":
		op, err = f.Admin.CreateTenant(t.Context(), api.CreateTenant{ID: id}, change)
	case "suspend":
		op, err = f.Admin.SuspendTenant(t.Context(), id, change)
	case "resume":
		op, err = f.Admin.ResumeTenant(t.Context(), id, change)
	case "delete":
		op, err = f.Admin.DeleteTenant(t.Context(), id, change)
	case "restore":
		op, err = f.Admin.RestoreTenant(t.Context(), id, change)
	}
	return op.ID, err
}

func killIn(t *testing.T, f *fleet.Fleet, verb, id, point, state string) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	require.NoError(t, f.Halt(ctx, controlPlane))
	require.NoError(t, f.Launch(ctx, controlPlane, "FREEHOLD_FAILPOINTS="+point+"=kill"))
	died := f.Ended(controlPlane)
	// The answer may be lost with the process: whoever asks again with the same key is told of the same operation.
	change := client.Change{Key: point}
	if _, err := start(t, f, verb, id, change); err != nil {
		require.ErrorIs(t, err, client.ErrUnreachable)
	}
	select {
	case <-died:
	case <-ctx.Done():
		t.Fatalf("the control plane did not come by %s", point)
	}
	require.NoError(t, f.Launch(ctx, controlPlane))
	op, err := start(t, f, verb, id, change)
	require.NoError(t, err)
	f.Wait(t, op, settleFor)
	tenant, err := f.Admin.Tenant(ctx, id)
	require.NoError(t, err)
	require.Equal(t, state, tenant.State)
	var limit int
	require.NoError(t, f.Postgres(t, "s1", "postgres").QueryRow(ctx, "SELECT datconnlimit FROM pg_database WHERE datname = $1", tenant.Database).Scan(&limit))
	if state == "active" {
		require.Equal(t, -1, limit, "an active tenant's database is open")
	} else {
		require.Equal(t, 0, limit, "a tenant that is not active is fenced")
	}
	// The relay may be a moment behind.
	require.Eventually(t, func() bool {
		ends := 0
		for e, err := range f.Admin.Audit(ctx, client.AuditFilter{Tenant: id, Action: "operation.end"}) {
			if err == nil && e.Object == "operation/"+op && e.Outcome == "ok" && e.Actor != "" && e.Role == "admin" {
				ends++
			}
		}
		return ends == 1
	}, settleFor, 50*time.Millisecond, "the audit log has the operation's end once")
}
