package catalog_test

import (
	"io/fs"
	"os"
	"path"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/internal/pgtest"
)

// A catalog of before comes up with all that is in it, while replicas of before
// still work on it and are started again.
func TestACatalogOfBeforeComesUp(t *testing.T) {
	t.Parallel()
	ctx, dsn := t.Context(), pgtest.Database(t)
	files, err := fs.Glob(os.DirFS("."), "migrations/0000[0-9]_*.sql")
	require.NoError(t, err)
	more, err := fs.Glob(os.DirFS("."), "migrations/0001[01]_*.sql")
	require.NoError(t, err)
	before := fstest.MapFS{}
	for _, name := range append(files, more...) {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		before[path.Join("migrations", path.Base(name))] = &fstest.MapFile{Data: text}
	}
	require.Len(t, before, 11)
	require.NoError(t, catalog.MigrateTo(ctx, dsn, before))
	old, err := catalog.Open(ctx, dsn)
	require.NoError(t, err)
	t.Cleanup(old.Close)
	catalogtest.AddShard(t, old, "s1")
	catalogtest.AddTenant(t, old, "acme", "s1", 1)
	exec := func(sql, id string) error {
		_, err := old.Pool().Exec(ctx, sql, id)
		return err
	}
	insert := func(id string) error {
		return exec(`insert into rebalance_plans (id, digest, policy_version, scenario, moves, bytes, plan, created_by, reason, created_at, expires_at)
			values ($1, 'd', 1, '', 0, 0, '{"of": "before"}', 'ann', '', clock_timestamp(), clock_timestamp() + interval '1 h')`, id)
	}
	access := func(id string) error {
		return exec(`insert into break_glass (id, tenant, database, works_as, reason, seconds, state, asked_by, asked_root, expires_at)
			select $1, 'acme', database, 'ro', 'why', 60, 'waiting', 'ann', 'ann', clock_timestamp() + interval '1 h' from placements where tenant = 'acme'`, id)
	}
	require.NoError(t, insert("01990000-0000-7000-8000-000000000001"))
	require.NoError(t, access("01990000-0000-7000-8000-000000000002"))

	require.NoError(t, catalog.Migrate(ctx, dsn))
	require.NoError(t, insert("01990000-0000-7000-8000-000000000003"), "a replica of before")
	require.NoError(t, access("01990000-0000-7000-8000-000000000004"), "a replica of before")
	require.NoError(t, catalog.MigrateTo(ctx, dsn, before), "a replica of before starts again")
	store, err := catalog.Open(ctx, dsn)
	require.NoError(t, err)
	t.Cleanup(store.Close)
	for _, id := range []string{"01990000-0000-7000-8000-000000000001", "01990000-0000-7000-8000-000000000003"} {
		p, err := store.GetRebalancePlan(ctx, id)
		require.NoError(t, err)
		require.JSONEq(t, `{"of": "before"}`, string(p.Plan))
	}
	var free int
	require.NoError(t, store.Pool().QueryRow(ctx, `select count(*) from break_glass where token is null and bindings = '{}'`).Scan(&free))
	require.Equal(t, 2, free)
}
