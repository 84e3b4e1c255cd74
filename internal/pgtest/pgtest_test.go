package pgtest_test

import (
	"context"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	a, b := connect(t, pgtest.Database(t)), connect(t, pgtest.Database(t))
	_, err := a.Exec(t.Context(), "CREATE TABLE only_here (x int)")
	require.NoError(t, err)
	var there bool
	require.NoError(t, b.QueryRow(t.Context(), "SELECT to_regclass('only_here') IS NOT NULL").Scan(&there))
	require.False(t, there)
	var level string
	require.NoError(t, a.QueryRow(t.Context(), "SHOW wal_level").Scan(&level))
	require.Equal(t, "logical", level)
}

// The way of a tenant's login: looked up by PgBouncer in the tenant's own
// database, let in by pg_hba only where it is a member of the database's anchor role.
func TestShardLetsALoginIntoItsOwnDatabaseOnly(t *testing.T) {
	t.Parallel()
	s := pgtest.Shard(t)
	admin := connect(t, s.Postgres.DSN("postgres"))
	password := pg.NewPassword()
	verifier, err := pg.ScramVerifier(password)
	require.NoError(t, err)
	for _, sql := range []string{"CREATE ROLE a", "CREATE ROLE a_login LOGIN NOINHERIT IN ROLE a PASSWORD '" + verifier + "'",
		"CREATE DATABASE a", "CREATE DATABASE b"} { // both open to PUBLIC: only pg_hba is left as a wall
		_, err := admin.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	for _, db := range []string{"a", "b"} {
		_, err := connect(t, s.Postgres.DSN(db)).Exec(t.Context(), `CREATE SCHEMA freehold; GRANT USAGE ON SCHEMA freehold TO freehold_bouncer;
			CREATE FUNCTION freehold.lookup(name text, OUT usename text, OUT passwd text) LANGUAGE sql SECURITY DEFINER
			AS 'SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname = $1'`)
		require.NoError(t, err)
	}
	login := s.Admin
	login.User, login.Password = "a_login", password
	var who string
	require.NoError(t, connect(t, s.Bouncer.DSN(login, "a")).QueryRow(t.Context(), "SELECT current_user").Scan(&who))
	require.Equal(t, "a_login", who)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = pgx.Connect(ctx, s.Bouncer.DSN(login, "b"))
	require.ErrorContains(t, err, "pg_hba.conf")

	if runtime.GOOS == "linux" { // where all of 127.0.0.0/8 is this machine
		for _, l := range []secret.Login{login, s.Auth, s.Admin} {
			cfg, err := s.Channel.Config(s.Host(), s.PGPort(), "a", l)
			require.NoError(t, err)
			cfg.DialFunc = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}).DialContext
			_, err = pgx.ConnectConfig(ctx, cfg)
			require.ErrorContains(t, err, "pg_hba.conf", "%s comes from elsewhere", l.User)
		}
	}
	require.Same(t, pgtest.SharedShard(t, "x"), pgtest.SharedShard(t, "x"))
}
