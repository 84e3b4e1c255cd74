package chaos

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/test/fleet"
)

// killOthers kills other parts at the cutover, and starts them again. TestChaos
// does so at any time, and controlplane/move's TestPgBouncerDiesInTheCutover to
// PgBouncer at its points.
func killOthers(t *testing.T, f *fleet.Fleet) {
	steps, parts := []string{"cutover"}, []string{"nats", "postgres-s1", "postgres-s2"}
	if os.Getenv("FREEHOLD_SOAK") != "" {
		fill(t, f, "acme")
		steps, parts = []string{"copy", "cutover"}, append(parts, "dataplane-1", "bouncer-s1", "bouncer-s2")
	}
	for _, part := range parts {
		for _, during := range steps {
			if !t.Run(part+" during "+during, func(t *testing.T) { killDuring(t, f, part, during) }) {
				return
			}
		}
	}
}

func killDuring(t *testing.T, f *fleet.Fleet, part, during string) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	before, err := f.Admin.Placement(ctx, "acme")
	require.NoError(t, err)
	to := map[string]string{"s1": "s2", "s2": "s1"}[string(before.Shard)]
	op := f.Move(t, "acme", to)
	killed := false
	end, err := f.Admin.Watch(ctx, op.ID, func(now api.Operation) error {
		if killed || now.Step != during {
			return nil
		}
		killed = true
		if err := f.Kill(part); err != nil {
			return err
		}
		return f.Launch(ctx, part)
	})
	require.NoError(t, err)
	if !killed { // the step was over before the watcher saw it: kill right after it instead
		require.NoError(t, f.Kill(part))
		require.NoError(t, f.Launch(ctx, part))
		t.Logf("%s was over before it was seen", during)
	}
	t.Logf("%s killed: move %s %s", part, end.State, end.Error)
	at := servedOnce(t, f, "acme", "s1", "s2")
	if end.State == "done" {
		require.Equal(t, to, at)
	} else {
		require.Equal(t, string(before.Shard), at)
	}
}

// fill gives a tenant enough rows that its copy takes a moment.
func fill(t *testing.T, f *fleet.Fleet, tenant string) {
	t.Helper()
	conn, err := f.TenantPostgres(t.Context(), tenant)
	require.NoError(t, err)
	defer conn.Close(t.Context()) //nolint:errcheck // done with it
	_, err = conn.Exec(t.Context(), `INSERT INTO public.activity (what, detail)
		SELECT 'history', jsonb_build_object('n', n, 'text', repeat(md5(n::text), 20)) FROM generate_series(1, 60000) n`, pgx.QueryExecModeExec)
	require.NoError(t, err)
}
