package movetest

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

//go:embed hostile.sql
var hostileSQL string

// Attack is a tenant that tries, wherever code of its own runs, to become a
// superuser, to have the server run a program, and to bend the subscription.
type Attack struct {
	db, mark string
}

// NewAttack is one on the tenant's own database.
func NewAttack(t testing.TB, db string) Attack {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "freehold-attack-") // the servers run as another user
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o777)) //nolint:gosec // the servers' user is to write there if it can
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return Attack{db: db, mark: filepath.Join(dir, "was-here")}
}

// SQL makes all of it, for the login of the database's owner.
func (a Attack) SQL() string {
	return strings.NewReplacer("{db}", a.db, "{mark}", a.mark).Replace(hostileSQL)
}

// RequireNothingGained checks that a server gave nothing away. conn is an admin
// connection to the database there, or to the one of that name with which it was cloned.
func (a Attack) RequireNothingGained(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	require.Empty(t, a.Gained(t, conn))
}

// Gained lists what the attack has got on a server.
func (a Attack) Gained(t testing.TB, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
		SELECT 'role ' || rolname || ' has more rights' FROM pg_catalog.pg_roles WHERE rolname ~ ('^' || current_database()) AND (rolsuper OR rolcreaterole OR rolreplication)
		UNION ALL SELECT 'role ' || rolname || ' was made' FROM pg_catalog.pg_roles WHERE rolname IN ('mallory_' || $1, 'mallory_' || current_database())
		UNION ALL SELECT r.rolname || ' is a member of ' || g.rolname FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member
			JOIN pg_catalog.pg_roles g ON g.oid = m.roleid WHERE r.rolname ~ ('^' || current_database()) AND g.rolname ~ '^pg_'
		UNION ALL SELECT 'subscription ' || subname || ' was bent' FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
			WHERE d.datname = current_database() AND (s.subconninfo ~ 'nowhere.invalid' OR NOT s.subenabled)`, a.db)
	require.NoError(t, err)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	if _, err := os.Stat(a.mark); err == nil {
		got = append(got, "a program was run")
	}
	return got
}

// Runs counts how often the tenant's code has run in a database, as the server's statistics have it so far.
func (a Attack) Runs(t testing.TB, conn *pgx.Conn) (n int64) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT coalesce(sum(calls), 0)::bigint FROM pg_catalog.pg_stat_user_functions WHERE schemaname = 'hostile'").Scan(&n))
	return n
}

// CountRuns has the database count them; it is carried by moves and clones.
func (a Attack) CountRuns(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	_, err := conn.Exec(t.Context(), fmt.Sprintf("ALTER DATABASE %s SET track_functions = 'all'", a.db))
	require.NoError(t, err)
}
