package shard_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/shardmap"
)

func TestCustomRoleMayWhatTheOwnerGrants(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	db := newName(t)
	login := f.Database(t, "a", db)
	before := roleFacts(t, admin(t, f, "a", "postgres"), db)
	require.Error(t, f.CreateCustomRole(ctx, "a", db, "editor"), "it is built in")
	require.Error(t, f.CreateCustomRole(ctx, "a", db, `x"; DROP TABLE customers; --`))
	require.ErrorIs(t, f.CreateCustomRole(ctx, "a", "postgres", "analyst"), shardmap.ErrInvalidID)
	require.NoError(t, f.CreateCustomRole(ctx, "a", db, "analyst"))
	inside := admin(t, f, "a", db)
	conn, err := direct(ctx, f, "a", db, login)
	require.NoError(t, err)
	defer conn.Close(ctx) //nolint:errcheck // ends with the test
	as := func(sql string) error {
		_, err := conn.Exec(ctx, "BEGIN; SET LOCAL ROLE "+shard.CustomRole(db, "analyst")+"; "+sql+"; COMMIT")
		if err != nil {
			_, rolledBack := conn.Exec(ctx, "ROLLBACK")
			require.NoError(t, rolledBack)
		}
		return err
	}
	require.NoError(t, as("SELECT 1"))
	require.Equal(t, "42501", pg.Code(as("SELECT name FROM public.customers")))
	require.Equal(t, "42501", pg.Code(as("CREATE TABLE public.mine (n int)")))
	_, err = inside.Exec(ctx, "SET ROLE "+shard.OwnerRole(db)+"; GRANT SELECT (name), REFERENCES ON public.customers TO "+shard.CustomRole(db, "analyst")+
		"; GRANT CREATE ON SCHEMA public TO "+shard.CustomRole(db, "analyst")+"; RESET ROLE")
	require.NoError(t, err)
	require.NoError(t, as("SELECT name FROM public.customers; CREATE TABLE public.mine (n int)"))
	require.Equal(t, "42501", pg.Code(as("SELECT * FROM public.customers")))

	// Again keeps what was granted; a role of the platform's is none of the tenant's.
	require.NoError(t, f.CreateCustomRole(ctx, "a", db, "analyst"))
	require.NoError(t, as("SELECT name FROM public.customers"))

	require.NoError(t, f.DropCustomRole(ctx, "a", db, "analyst"))
	require.NoError(t, f.DropCustomRole(ctx, "a", db, "analyst"))
	require.Equal(t, before, roleFacts(t, admin(t, f, "a", "postgres"), db))
	var owner string
	require.NoError(t, inside.QueryRow(ctx, "SELECT tableowner::text FROM pg_catalog.pg_tables WHERE tablename = 'mine'").Scan(&owner))
	require.Equal(t, shard.OwnerRole(db), owner, "what it owned is not lost")
}
