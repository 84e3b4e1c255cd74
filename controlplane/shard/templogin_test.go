package shard_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
)

// A person who works as the owner can have the login own things and hold
// rights, in the tenant's database. It goes all the same, and keeps no other
// expired login of the server from going; what it owned stays, with the owner.
func TestALoginThatOwnsThingsGoes(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	server := admin(t, f, "a", "postgres")
	expire := func(user string) {
		_, err := server.Exec(ctx, "ALTER ROLE "+pg.Ident(user)+" VALID UNTIL '2000-01-01'")
		require.NoError(t, err)
	}
	db, gone := newName(t), newName(t)
	f.Database(t, "a", db)
	f.Database(t, "a", gone)
	login, _, err := shard.TempLogin(ctx, server, db, shard.AccessOwner, time.Hour)
	require.NoError(t, err)
	other, _, err := shard.TempLogin(ctx, server, gone, shard.AccessRO, time.Hour)
	require.NoError(t, err)
	person, err := direct(ctx, f, "a", db, login)
	require.NoError(t, err)
	defer person.Close(ctx) //nolint:errcheck // its login is dropped
	user := pg.Ident(login.User)
	for _, sql := range []string{
		"GRANT CREATE ON SCHEMA public TO " + user,
		"GRANT SELECT ON customers TO " + user,
		"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO " + user,
		"RESET ROLE", "SET ROLE none",
		"CREATE TABLE public.mine (id int)",
		"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO " + pg.Ident(shard.RORole(db)),
	} {
		_, err := person.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	expire(login.User)
	expire(other.User)
	n, err := shard.SweepTempLogins(ctx, server)
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, 2)
	rows, err := server.Query(ctx, "SELECT rolname::text FROM pg_roles WHERE rolname = ANY($1)", []string{login.User, other.User})
	require.NoError(t, err)
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Empty(t, left)
	var owner string
	require.NoError(t, admin(t, f, "a", db).QueryRow(ctx, "SELECT tableowner FROM pg_tables WHERE tablename = 'mine'").Scan(&owner))
	require.Equal(t, shard.OwnerRole(db), owner)
}

// Any tenant can name another's roles in its own grants and policies. That must
// keep no database from being dropped, and takes nothing from the one that did it.
func TestARoleThatAnotherTenantNamedIsDropped(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	server := admin(t, f, "a", "postgres")
	victim, rogue := newName(t), newName(t)
	f.Database(t, "a", victim)
	f.Database(t, "a", rogue)
	owner, err := direct(ctx, f, "a", rogue, temporary(t, f, "a", rogue, shard.AccessOwner))
	require.NoError(t, err)
	defer owner.Close(ctx) //nolint:errcheck // nothing is lost with it
	for _, role := range []string{shard.OwnerRole(victim), shard.AnchorRole(victim), shard.AuthLogin(victim)} {
		for _, sql := range []string{
			"GRANT SELECT ON customers TO %s", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO %s",
			"CREATE POLICY for_" + role + " ON customers TO %s", "GRANT USAGE ON SCHEMA public TO %s",
		} {
			_, err := owner.Exec(ctx, fmt.Sprintf(sql, pg.Ident(role)))
			require.NoError(t, err, sql)
		}
	}
	require.NoError(t, shard.DropDatabaseAndRoles(ctx, server, victim))
	var left int
	require.NoError(t, server.QueryRow(ctx, "SELECT count(*) FROM pg_roles WHERE rolname LIKE $1", victim+"%").Scan(&left))
	require.Zero(t, left)
	_, err = owner.Exec(ctx, "TABLE customers")
	require.NoError(t, err)
}
