package shard_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/tenantdb"
)

// Every login is in the group that pg_hba.conf knows it by; those of an older
// version are brought there. The groups themselves give nothing.
func TestLoginsAreInTheirGroups(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	db := newName(t)
	login := f.Database(t, "a", db)
	person := temporary(t, f, "a", db, shard.AccessRO)
	conn := admin(t, f, "a", "postgres")
	groups := func() map[string]string {
		rows, err := conn.Query(ctx, `
			SELECT l.rolname::text, string_agg(g.rolname, ',' ORDER BY g.rolname)
			FROM pg_roles l LEFT JOIN (pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid AND g.rolname LIKE 'freehold\_%') ON m.member = l.oid
			WHERE l.rolname LIKE $1 || '%' AND l.rolcanlogin GROUP BY l.rolname`, db)
		require.NoError(t, err)
		of := map[string]string{}
		var name string
		var group *string
		_, err = pgx.ForEachRow(rows, []any{&name, &group}, func() error {
			of[name] = ""
			if group != nil {
				of[name] = *group
			}
			return nil
		})
		require.NoError(t, err)
		return of
	}
	want := map[string]string{person.User: tenantdb.People}
	for l := range tenantdb.Login(tenantdb.Logins) {
		want[l.User(db)] = tenantdb.TenantLogins
	}
	require.Equal(t, want, groups())

	_, err := conn.Exec(ctx, "REVOKE "+tenantdb.TenantLogins+" FROM "+login.User)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "REVOKE "+tenantdb.People+" FROM "+person.User)
	require.NoError(t, err)
	require.NotEqual(t, want, groups())
	require.NoError(t, shard.Enlist(ctx, conn))
	require.Equal(t, want, groups())
	require.NoError(t, shard.Enlist(ctx, conn), "nothing to do")

	in, err := bounced(ctx, f, "a", db, login)
	require.NoError(t, err)
	defer in.Close(ctx) //nolint:errcheck // a test
	require.Error(t, become(ctx, in, tenantdb.TenantLogins, "SELECT * FROM customers"))
	require.Error(t, become(ctx, in, tenantdb.TenantLogins, "CREATE TEMPORARY TABLE mine ()"))
}
