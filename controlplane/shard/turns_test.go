package shard_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
)

// next is the document of the turn after document's.
func nextTurn(t testing.TB, database string, document secret.Login) secret.Login {
	t.Helper()
	turn, err := tenantdb.TurnOf(document, database)
	require.NoError(t, err)
	return secret.Login{User: tenantdb.REST.UserAt(database, turn.Other()), Password: pg.NewPassword(), Generation: document.Generation + 1}
}

// loginsOf are the database's logins that follow from a document.
func loginsOf(t testing.TB, database string, document secret.Login) (logins []secret.Login) {
	t.Helper()
	for l := range tenantdb.Login(tenantdb.Logins) {
		login, err := l.From(document, database)
		require.NoError(t, err)
		logins = append(logins, login)
	}
	return logins
}

func mayConnect(ctx context.Context, f *shardtest.Fleet, database string, login secret.Login) error {
	conn, err := direct(ctx, f, "a", database, login)
	if err == nil {
		err = conn.Close(ctx)
	}
	return err
}

// factsOfTurn are a turn's role facts, without what must differ.
func factsOfTurn(t testing.TB, conn *pgx.Conn, database string, turn tenantdb.Turn) (facts []string) {
	t.Helper()
	for _, fact := range roleFacts(t, conn, database) {
		fields := strings.Split(fact, "|")
		if slices.Contains(shard.TurnLogins(database, turn), fields[0]) {
			fields[0], fields[5] = strings.TrimSuffix(fields[0], "_"+string(turn)), ""
			facts = append(facts, strings.Join(fields, "|"))
		}
	}
	return facts
}

func TestATurnIsLikeTheOther(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a", "b")
	db := newName(t)
	first := f.Database(t, "a", db)
	conn := admin(t, f, "a", "postgres")
	require.NoError(t, f.CreateCustomRole(ctx, "a", db, "analyst"))
	for _, sql := range []string{
		"ALTER ROLE " + shard.AuthLogin(db) + " SET application_name = 'mine'",
		"ALTER ROLE " + shard.AuthLogin(db) + " CONNECTION LIMIT 17",
		"ALTER ROLE " + tenantdb.SQLRead.User(db) + " IN DATABASE " + db + " SET statement_timeout = '7s'",
	} {
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}

	second := nextTurn(t, db, first)
	open, err := shard.TurnIsOpen(ctx, conn, db, second)
	require.NoError(t, err)
	require.False(t, open)
	require.NoError(t, shard.OpenTurn(ctx, conn, db, second))
	require.Equal(t, factsOfTurn(t, conn, db, tenantdb.FirstTurn), factsOfTurn(t, conn, db, tenantdb.SecondTurn))
	facts := roleFacts(t, conn, db)
	require.NoError(t, shard.OpenTurn(ctx, conn, db, second), "once more")
	require.Equal(t, facts, roleFacts(t, conn, db), "verifiers that fit are left as they are: another salt would break who is logged in")
	for _, login := range append(loginsOf(t, db, first), loginsOf(t, db, second)...) {
		require.NoError(t, mayConnect(ctx, f, db, login), "both turns serve: %s", login.User)
	}

	session, err := direct(ctx, f, "a", db, first)
	require.NoError(t, err)
	defer session.Close(ctx) //nolint:errcheck // it is ended below
	require.NoError(t, shard.CloseTurn(ctx, conn, db, tenantdb.FirstTurn))
	for _, login := range loginsOf(t, db, first) {
		require.Error(t, mayConnect(ctx, f, db, login), login.User)
	}
	for _, login := range loginsOf(t, db, second) {
		require.NoError(t, mayConnect(ctx, f, db, login), login.User)
	}
	_, err = session.Exec(ctx, "SELECT 1")
	require.NoError(t, err, "who was in stays")
	pgtest.Eventually(t, "the old turn's sessions are gone", func() bool {
		n, err := shard.EndTurn(ctx, conn, db, tenantdb.FirstTurn, false)
		require.NoError(t, err)
		return n == 0
	})
	_, err = session.Exec(ctx, "SELECT 1")
	require.Error(t, err)

	// What knows the logins by name goes on with the second turn.
	require.NoError(t, f.CreateCustomRole(ctx, "a", db, "late"))
	require.NoError(t, shard.AddLogins(ctx, conn, db, second, shard.Limits{}))
	lacking, err := shard.LackingLogins(ctx, conn, "", 1000)
	require.NoError(t, err)
	require.NotContains(t, lacking, db)
	_, err = conn.Exec(ctx, "DROP OWNED BY "+tenantdb.Owner.UserAt(db, tenantdb.SecondTurn)+"; DROP ROLE "+tenantdb.Owner.UserAt(db, tenantdb.SecondTurn))
	require.NoError(t, err)
	lacking, err = shard.LackingLogins(ctx, conn, "", 1000)
	require.NoError(t, err)
	require.Contains(t, lacking, db)
	require.NoError(t, shard.AddLogins(ctx, conn, db, second, shard.Limits{}))

	dst := admin(t, f, "b", "postgres")
	t.Cleanup(func() { f.Drop(t, "b", db) })
	require.NoError(t, shard.CreateTarget(ctx, conn, dst, db))
	require.NoError(t, shard.SyncRoles(ctx, conn, dst, db))
	require.Equal(t, roleFacts(t, conn, db), roleFacts(t, dst, db), "a move carries both turns, open or closed")

	// And back again.
	third := nextTurn(t, db, second)
	require.NoError(t, shard.OpenTurn(ctx, conn, db, third))
	require.NoError(t, shard.CloseTurn(ctx, conn, db, tenantdb.SecondTurn))
	require.Equal(t, shard.AuthLogin(db), third.User)
	for _, login := range loginsOf(t, db, third) {
		require.NoError(t, mayConnect(ctx, f, db, login), login.User)
	}
	require.Error(t, mayConnect(ctx, f, db, first), "the password of two generations ago")
	var late bool
	require.NoError(t, conn.QueryRow(ctx, "SELECT pg_has_role($1, $2, 'MEMBER')", third.User, shard.CustomRole(db, "late")).Scan(&late))
	require.True(t, late, "what was granted to the other turn meanwhile")
}

// A clone's logins are of the first turn, like those that are in use at the source.
func TestACloneTakesOverTheTurnInUse(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	from, to := newName(t), newName(t)
	first := f.Database(t, "a", from)
	conn := admin(t, f, "a", "postgres")
	second := nextTurn(t, from, first)
	require.NoError(t, shard.OpenTurn(ctx, conn, from, second))
	require.NoError(t, shard.CloseTurn(ctx, conn, from, tenantdb.FirstTurn))
	for login, mem := range map[string]string{first.User: "6MB", second.User: "5MB"} {
		_, err := conn.Exec(ctx, "ALTER ROLE "+login+" IN DATABASE "+from+" SET work_mem = '"+mem+"'")
		require.NoError(t, err)
		_, err = conn.Exec(ctx, "ALTER ROLE "+login+" SET myapp.turn = '"+mem+"'")
		require.NoError(t, err)
	}
	document := secret.Login{User: shard.AuthLogin(to), Password: pg.NewPassword(), Generation: 1}
	t.Cleanup(func() { f.Drop(t, "a", to) })
	_, err := shard.CloneTarget(ctx, conn, conn, from, to, document, shard.Limits{})
	require.NoError(t, err)
	require.NoError(t, shard.Unfence(ctx, conn, to))
	c, err := direct(ctx, f, "a", to, document)
	require.NoError(t, err)
	defer c.Close(ctx) //nolint:errcheck // nothing is lost with it
	var everywhere, here string
	require.NoError(t, c.QueryRow(ctx, "SELECT current_setting('myapp.turn'), current_setting('work_mem')").Scan(&everywhere, &here))
	require.Equal(t, []string{"5MB", "5MB"}, []string{everywhere, here})
}

func TestRevokedLoginsCloseEveryLoginAtOnce(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	db := newName(t)
	first := f.Database(t, "a", db)
	conn := admin(t, f, "a", "postgres")
	person := temporary(t, f, "a", db, shard.AccessOwner)
	session, err := direct(ctx, f, "a", db, first)
	require.NoError(t, err)
	defer session.Close(ctx) //nolint:errcheck // it is ended below

	people, err := shard.RevokeLogins(ctx, conn, db)
	require.NoError(t, err)
	require.Equal(t, []string{person.User}, people)
	_, err = session.Exec(ctx, "SELECT 1")
	require.Error(t, err, "a session that was there is no way in either")
	for _, login := range append(loginsOf(t, db, first), person) {
		require.Error(t, mayConnect(ctx, f, db, login), login.User)
	}
	people, err = shard.RevokeLogins(ctx, conn, db)
	require.NoError(t, err, "once more")
	require.Empty(t, people)

	second := nextTurn(t, db, first)
	require.NoError(t, shard.OpenTurn(ctx, conn, db, second))
	for _, login := range loginsOf(t, db, second) {
		require.NoError(t, mayConnect(ctx, f, db, login), login.User)
	}
	require.Error(t, mayConnect(ctx, f, db, first))
}
