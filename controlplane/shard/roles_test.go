package shard_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

func shardID(s string) shardmap.ShardID { return shardmap.ShardID(s) }

// roleFacts is everything that a copy must keep, as text.
func roleFacts(t testing.TB, conn *pgx.Conn, db string) []string {
	t.Helper()
	rows, err := conn.Query(bounded(t), `
		SELECT concat_ws('|', rolname, rolcanlogin, rolinherit, rolconnlimit, coalesce(rolvaliduntil, 'infinity'), rolpassword,
		  rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls,
		  (SELECT string_agg(g.rolname, ',' ORDER BY g.rolname) FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = a.oid),
		  (SELECT string_agg(coalesce(d.datname, '*') || array_to_string(s.setconfig, ';'), ',' ORDER BY d.datname) FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase WHERE s.setrole = a.oid),
		  (SELECT has_database_privilege(a.oid, d.oid, 'CONNECT') FROM pg_database d WHERE d.datname = $1))
		FROM pg_authid a WHERE rolname LIKE $1 || '%' ORDER BY rolname`, db)
	require.NoError(t, err)
	facts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return facts
}

func TestRolesAreCopiedWhole(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a", "b")
	db := newName(t)
	f.Database(t, "a", db)
	t.Cleanup(func() { f.Drop(t, "b", db) })
	src, dst := admin(t, f, "a", "postgres"), admin(t, f, "b", "postgres")
	temporary(t, f, "a", db, shard.AccessOwner)
	for _, sql := range []string{
		`ALTER ROLE ` + shard.AuthLogin(db) + ` SET search_path = "$user", public, "o'dd name"`,
		`ALTER ROLE ` + shard.AuthLogin(db) + ` SET application_name = 'it''s \ me'`,
		`ALTER ROLE ` + shard.RWRole(db) + ` SET myapp.setting = 'x=y'`,
		`ALTER DATABASE ` + db + ` SET default_text_search_config = 'english'`,
		`ALTER ROLE ` + shard.RORole(db) + ` IN DATABASE ` + db + ` SET work_mem = '5MB'`,
	} {
		_, err := src.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	require.NoError(t, shard.CreateTarget(ctx, src, dst, db))
	require.Equal(t, roleFacts(t, src, db), roleFacts(t, dst, db))

	// What changed since comes along with a second pass.
	login := temporary(t, f, "a", db, shard.AccessRO)
	for _, sql := range []string{`ALTER ROLE ` + shard.AuthLogin(db) + ` RESET ALL`, `ALTER DATABASE ` + db + ` RESET default_text_search_config`,
		`ALTER ROLE ` + shard.RORole(db) + ` IN DATABASE ` + db + ` RESET work_mem`} {
		_, err := src.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	require.NoError(t, shard.SyncRoles(ctx, src, dst, db))
	require.Equal(t, roleFacts(t, src, db), roleFacts(t, dst, db))
	require.NoError(t, shard.Unfence(ctx, dst, db))
	conn, err := direct(ctx, f, "b", db, login)
	require.NoError(t, err)
	require.NoError(t, conn.Close(ctx))

	f.Drop(t, "b", db)
	require.Empty(t, roleFacts(t, dst, db))
	f.Drop(t, "b", db)
	require.NotEmpty(t, roleFacts(t, src, db))
}

// From 16 on a membership has options: what was granted on 15 means the same there.
func TestRolesAreCopiedToANewerVersion(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a", shardtest.Newer)
	db := newName(t)
	f.Database(t, "a", db)
	t.Cleanup(func() { f.Drop(t, shardtest.Newer, db) })
	src, dst := admin(t, f, "a", "postgres"), admin(t, f, shardtest.Newer, "postgres")
	login := temporary(t, f, "a", db, shard.AccessRO)
	require.NoError(t, shard.CreateTarget(ctx, src, dst, db))
	require.NoError(t, shard.SyncRoles(ctx, src, dst, db))
	require.Equal(t, roleFacts(t, src, db), roleFacts(t, dst, db))
	var logins, others int
	require.NoError(t, dst.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE m.set_option AND NOT m.inherit_option AND NOT m.admin_option),
		  count(*) FILTER (WHERE NOT m.set_option OR m.inherit_option OR m.admin_option)
		FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolcanlogin AND r.rolname LIKE $1 || '%'`, db).Scan(&logins, &others))
	require.Positive(t, logins)
	require.Zero(t, others, "a login may become its roles, and has no right of theirs by itself")
	require.NoError(t, shard.Unfence(ctx, dst, db))
	conn, err := direct(ctx, f, shardtest.Newer, db, login)
	require.NoError(t, err)
	var role string
	require.NoError(t, conn.QueryRow(ctx, "SELECT current_user::text").Scan(&role))
	require.Equal(t, shard.RORole(db), role)
	_, err = conn.Exec(ctx, "SET ROLE "+shard.OwnerRole(db))
	require.Equal(t, "42501", pg.Code(err))
	require.NoError(t, conn.Close(ctx))
}

// SET … FROM CURRENT stores a list as it was set, in which nothing is quoted.
// The copy, which a superuser makes, must not take it for SQL.
func TestSettingsAreNoSQL(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a", "b")
	db := newName(t)
	f.Database(t, "a", db)
	t.Cleanup(func() { f.Drop(t, "b", db) })
	src, dst := admin(t, f, "a", "postgres"), admin(t, f, "b", "postgres")
	login := temporary(t, f, "a", db, shard.AccessRO)
	evil, err := direct(ctx, f, "a", db, login)
	require.NoError(t, err)
	defer evil.Close(ctx) //nolint:errcheck // ends with the test
	user := pg.Ident(login.User)
	list := `x;ALTER/**/ROLE/**/` + user + `/**/SUPERUSER;--`
	for _, where := range []string{"", " IN DATABASE " + db} {
		_, err = evil.Exec(ctx, "SET ROLE NONE")
		require.NoError(t, err)
		_, err = evil.Exec(ctx, "SELECT set_config('search_path', $1, false)", list)
		require.NoError(t, err)
		_, err = evil.Exec(ctx, "ALTER ROLE "+user+where+" SET search_path FROM CURRENT")
		require.NoError(t, err)
	}
	require.NoError(t, shard.CreateTarget(ctx, src, dst, db))
	require.NoError(t, shard.SyncRoles(ctx, src, dst, db))
	var super bool
	require.NoError(t, dst.QueryRow(ctx, "SELECT rolsuper FROM pg_roles WHERE rolname = $1", login.User).Scan(&super))
	require.False(t, super)
}

func TestTemporaryLoginsExpire(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	db := newName(t)
	f.Database(t, "a", db)
	conn := admin(t, f, "a", "postgres")
	lasting := temporary(t, f, "a", db, shard.AccessOwner)
	login, until, err := shard.TempLogin(ctx, conn, db, shard.AccessRW, time.Hour)
	require.NoError(t, err)
	session, err := direct(ctx, f, "a", db, login)
	require.NoError(t, err)
	defer session.Close(ctx) //nolint:errcheck // ended by the sweep
	var role string
	require.NoError(t, session.QueryRow(ctx, "SELECT current_user::text").Scan(&role))
	require.Equal(t, shard.RWRole(db), role)

	var ends time.Time
	require.NoError(t, conn.QueryRow(ctx, "SELECT rolvaliduntil FROM pg_roles WHERE rolname = $1", login.User).Scan(&ends))
	require.WithinDuration(t, until, ends, time.Second)
	_, err = conn.Exec(ctx, "ALTER ROLE "+pg.Ident(login.User)+" VALID UNTIL '2020-02-02'") // as if that time had come
	require.NoError(t, err)
	_, err = direct(ctx, f, "a", db, login)
	require.Equal(t, "28P01", pg.Code(err))
	n, err := shard.SweepTempLogins(ctx, conn)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	_, err = session.Exec(ctx, "SELECT 1")
	require.Error(t, err)
	session, err = direct(ctx, f, "a", db, lasting)
	require.NoError(t, err)
	require.NoError(t, session.Close(ctx))
	_, _, err = shard.TempLogin(ctx, conn, db, "god", time.Hour)
	require.Error(t, err)
}

func TestCreateIsItsOwnRepetition(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	db := newName(t)
	login := f.Database(t, "a", db)
	limits := shard.Limits{Connections: 3}
	conn := admin(t, f, "a", "postgres")
	require.ErrorIs(t, f.CreateDatabase(ctx, "a", db, shard.TemplateApp, limits), shard.ErrInUse)
	require.NoError(t, shard.Fence(ctx, conn, db))
	login.Password = pg.NewPassword()
	require.NoError(t, shard.CreateRoles(ctx, conn, db, login, limits))
	require.NoError(t, f.CreateDatabase(ctx, "a", db, shard.TemplateApp, limits))
	require.NoError(t, shard.Unfence(ctx, conn, db))
	for range 3 {
		c, err := direct(ctx, f, "a", db, login)
		require.NoError(t, err)
		defer c.Close(ctx) //nolint:errcheck // ends with the test
	}
	_, err := direct(ctx, f, "a", db, login)
	require.Equal(t, "53300", pg.Code(err), "the tenant's connection limit")
	require.ErrorIs(t, shard.CreateRoles(ctx, conn, db, secret.Login{User: "somebody", Password: "p"}, limits), tenantdb.ErrDocument)
	require.ErrorIs(t, shard.CreateRoles(ctx, conn, "postgres", login, limits), shardmap.ErrInvalidID)
}
