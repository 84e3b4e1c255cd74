package pgserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/secret"
)

func console(t *testing.T, b *Bouncer, command string) []*pgconn.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := pgconn.Connect(ctx, b.AdminDSN())
	require.NoError(t, err)
	defer conn.Close(ctx) //nolint:errcheck // a test
	results, err := conn.Exec(ctx, command).ReadAll()
	require.NoError(t, err)
	return results
}

func TestBouncerRoutesAndRestarts(t *testing.T) {
	t.Parallel()
	base := enterable(t)
	p := newServer(t, Config{Dir: filepath.Join(base, "pg"), HBA: HBA{Platform: []string{"freehold_admin", "freehold_bouncer"}}.Lines()})
	require.NoError(t, p.Start(t.Context()))
	query(t, p.DSN("postgres"), "SELECT 1::text")

	cfg := BouncerConfig{Dir: filepath.Join(base, "b"), BackendHost: p.SocketDir(), BackendPort: p.Port(), Lookups: 2, Settings: map[string]string{"server_idle_timeout": "3600"},
		Auth: secret.Login{Password: "auth"}, Admin: secret.Login{Password: "admin"}, DieWithParent: true}
	b, err := NewBouncer(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Destroy(context.Background())) })
	require.NoError(t, b.Start(t.Context()))

	// A lookup in each of many databases leaves no connection to each behind.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	admin, err := pgx.Connect(ctx, p.DSN("postgres"))
	require.NoError(t, err)
	defer admin.Close(ctx) //nolint:errcheck // a test
	do := func(conn *pgx.Conn, sql string) {
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err)
	}
	do(admin, "CREATE ROLE freehold_bouncer LOGIN PASSWORD 'auth'")
	do(admin, "CREATE ROLE client LOGIN PASSWORD 'word'")
	const databases = 4
	for i := range databases {
		name := fmt.Sprintf("t%d", i)
		do(admin, "CREATE DATABASE "+name)
		do(admin, "CREATE ROLE "+name+" ROLE client")
		inside, err := pgx.Connect(ctx, p.DSN(name))
		require.NoError(t, err)
		do(inside, `CREATE SCHEMA freehold; GRANT USAGE ON SCHEMA freehold TO PUBLIC;
			CREATE FUNCTION freehold.lookup(login text) RETURNS TABLE (usename name, passwd text) LANGUAGE sql SECURITY DEFINER AS 'SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = login'`)
		require.NoError(t, inside.Close(ctx))
		require.Equal(t, name, query(t, b.DSN(secret.Login{User: "client", Password: "word"}, name), "SELECT current_database()::text"))
	}
	backends := func(user string) (n int) {
		require.NoError(t, admin.QueryRow(ctx, "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usename = $1", user).Scan(&n))
		return n
	}
	require.Equal(t, databases, backends("client"))
	require.Eventually(t, func() bool { return backends("freehold_bouncer") <= 2 }, 30*time.Second, 20*time.Millisecond)

	// As the control plane does it: replace the file, RELOAD, look.
	tmp := b.RoutesFile() + ".new"
	require.NoError(t, os.WriteFile(tmp, []byte("t_00000000000000aa = host=127.0.0.1 port=1 auth_user=freehold_bouncer\n"), 0o644)) //nolint:gosec // no secret
	require.NoError(t, os.Rename(tmp, b.RoutesFile()))
	console(t, b, "RELOAD")
	routed := func() bool {
		for _, row := range console(t, b, "SHOW DATABASES")[0].Rows {
			if string(row[0]) == "t_00000000000000aa" {
				return string(row[2]) == "1"
			}
		}
		return false
	}
	require.Eventually(t, routed, 30*time.Second, 20*time.Millisecond)

	port := b.Port()
	require.NoError(t, b.Kill())
	require.NoError(t, b.Start(t.Context()), "its pid file is stale now")
	require.Equal(t, port, b.Port())
	require.True(t, routed(), "routes outlive it")

	// An earlier life's PgBouncer is stopped by the next.
	next, err := NewBouncer(cfg)
	require.NoError(t, err)
	require.NoError(t, next.Start(t.Context()))
	require.Zero(t, b.Pid())
	require.NoError(t, next.Stop(t.Context()))
	require.NoError(t, next.Stop(t.Context()), "stopping twice")
}
