package clone

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/movetest"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/worldtest"
	domain "github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

// renamed says of the source what is said of its clone.
func renamed(lines []string, from, to string) []string {
	now := strings.Split(strings.ReplaceAll(strings.Join(lines, "\n"), from, to), "\n")
	slices.Sort(now)
	return now
}

const notes = "--exclude-table-data=freehold.schema_change" // of the schema changes at each place

// A clone is equal to its source but for its names, has an access of its own,
// and nothing is to be seen of it at the source. All of it by TLS.
func TestCloneOfEverything(t *testing.T) {
	t.Parallel()
	w := newSecureWorld(t, "a", "b")
	db := w.tenant("every", "a")
	_, err := w.tenantAccess.CreateRole(t.Context(), "every", "analyst", "reads", worldtest.Tester, "")
	require.NoError(t, err)
	w.AsOwner("a", db, movetest.Everything)
	w.AsOwner("a", db, "GRANT SELECT ON every.orders TO "+shard.CustomRole(db, "analyst")+";"+
		"CREATE FUNCTION who() RETURNS text LANGUAGE sql AS $$ SELECT '"+shard.OwnerRole(db)+"' $$; COMMENT ON FUNCTION who() IS 'names "+db+"'")
	admin := w.Conn("a", db)
	w.Script(admin, "ALTER DATABASE "+db+" SET work_mem = '7MB'; ALTER ROLE "+shard.RORole(db)+" IN DATABASE "+db+" SET statement_timeout = '3s';"+
		"ALTER ROLE "+shard.AuthLogin(db)+" SET application_name = 'app of "+db+"'; COMMENT ON DATABASE "+db+" IS 'the tenant''s'")
	_, err = w.tenantAccess.ChangeTenant(t.Context(), "every", access.Change{Limits: &domain.Limits{Rate: 7}, Attributes: &map[string]string{"tier": "gold"},
		Policies: &[]domain.Policy{{Name: "all", Text: "permit (principal, action, resource);"}}}, nil, worldtest.Tester)
	require.NoError(t, err)
	_, _, err = w.tenantAccess.CreateKey(t.Context(), "every", access.KeySpec{Role: "viewer"}, worldtest.Tester)
	require.NoError(t, err)
	schema, data := w.dump("a", db, "--schema-only", "--create"), w.dump("a", db, "--data-only", notes)

	for i, to := range []shardmap.ShardID{"", "b"} {
		id := shardmap.TenantID([]string{"staging", "elsewhere"}[i])
		rec := w.done(w.clone(Request{Source: "every", Tenant: id, DisplayName: "a copy", To: to}))
		require.Equal(t, "equal", rec.Verification)
		require.Positive(t, rec.Rows)
		require.Equal(t, 1, rec.Copies)
		p := w.Placement(id)
		require.Equal(t, p, *rec.Placement)
		require.Equal(t, []shardmap.ShardID{"a", "b"}[i], p.Shard)
		require.NotEqual(t, db, p.Database)
		if d := cmp.Diff(renamed(schema, db, p.Database), w.dump(p.Shard, p.Database, "--schema-only", "--create")); d != "" {
			t.Errorf("schema of %s differs (- source, + clone):\n%s", id, d)
		}
		if d := cmp.Diff(renamed(data, db, p.Database), w.dump(p.Shard, p.Database, "--data-only", notes)); d != "" {
			t.Errorf("data of %s differ (- source, + clone):\n%.4000s", id, d)
		}
		require.Equal(t, schema, w.dump("a", db, "--schema-only", "--create"), "the source is as it was")
		w.requireNoMark("a", db)
		w.requireNoMark(p.Shard, p.Database)
		w.requireServed(p, db)

		was, err := w.tenantAccess.Tenant(t.Context(), "every")
		require.NoError(t, err)
		now, err := w.tenantAccess.Tenant(t.Context(), id)
		require.NoError(t, err)
		require.Len(t, was.Keys, 1)
		require.Empty(t, now.Keys, "keys are not carried")
		require.Equal(t, was.Limits, now.Limits)
		require.Equal(t, was.Attributes, now.Attributes)
		require.Equal(t, was.Policies, now.Policies)
		require.Equal(t, []string{"analyst"}, now.Roles)
		roles, err := w.tenantAccess.Roles(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, "reads", roles[0].Description)
	}
}

// requireServed logs in to a clone by each of its logins, and with none of the source's.
func (w *world) requireServed(p shardmap.Placement, source string) {
	w.T.Helper()
	ctx := w.T.Context()
	on, err := w.Fleet.Shard(ctx, p.Shard)
	require.NoError(w.T, err)
	document, _, err := w.Secrets.Get(ctx, secret.DatabaseAuth(p.Database))
	require.NoError(w.T, err)
	for l := range tenantdb.Login(tenantdb.Logins) {
		login, err := l.From(document, p.Database)
		require.NoError(w.T, err)
		conn, err := w.Channel().Connect(ctx, on.BouncerHost, on.BouncerPort, p.Database, login)
		require.NoError(w.T, err, "%s", l)
		for _, role := range l.Become(p.Database) {
			_, err = conn.PgConn().Exec(ctx, "SET ROLE "+role+"; SELECT FROM public.customers; RESET ROLE").ReadAll()
			require.NoError(w.T, err, "%s as %s", l, role)
		}
		require.NoError(w.T, conn.Close(ctx))
	}
	theirs, _, err := w.Secrets.Get(ctx, secret.DatabaseAuth(source))
	require.NoError(w.T, err)
	_, err = w.Channel().Connect(ctx, on.BouncerHost, on.BouncerPort, p.Database, theirs)
	require.Error(w.T, err, "the source's login leads into the clone")
}

// Of a schema-only clone the rows stay behind, but for those that say which migrations were run.
func TestSchemaOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	db := w.tenant("full", "a")
	w.AsOwner("a", db, "INSERT INTO customers (name) SELECT 'c' || i FROM generate_series(1, 100) i; CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM customers")
	w.needs("full", catalog.Needs{Forbid: map[string]string{"disk": "tape"}, Apart: "originals", Pinned: true})
	rec := w.done(w.clone(Request{Source: "full", Tenant: "bare", SchemaOnly: true}))
	needs, err := w.Store.GetNeeds(t.Context(), "bare")
	require.NoError(t, err)
	require.Equal(t, catalog.Needs{Require: map[string]string{}, Forbid: map[string]string{"disk": "tape"}}, needs)
	p := w.Placement("bare")
	require.Equal(t, renamed(w.dump("a", db, "--schema-only", "--create"), db, p.Database), w.dump("a", p.Database, "--schema-only", "--create"))
	conn := w.Conn("a", p.Database)
	var customers, id, n, version int64
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM public.customers), (SELECT n FROM public.m), (SELECT max(version_id) FROM migrations.goose_db_version)").Scan(&customers, &n, &version))
	require.Zero(t, customers)
	require.Zero(t, n)
	require.Positive(t, version)
	require.Equal(t, 1, rec.Tables)
	require.NoError(t, conn.QueryRow(t.Context(), "INSERT INTO public.customers (name) VALUES ('first') RETURNING id").Scan(&id))
	require.EqualValues(t, 1, id, "sequences begin anew")
	w.Script(conn, "INSERT INTO migrations.goose_db_version (version_id, is_applied) VALUES (1000, true)") // but not this one
	row, err := w.Store.GetDatabase(t.Context(), "a", p.Database)
	require.NoError(t, err)
	require.Equal(t, catalog.DatabaseAssigned, row.State)
	source, err := w.Store.GetDatabase(t.Context(), "a", db)
	require.NoError(t, err)
	require.Equal(t, source.SchemaVersion, row.SchemaVersion)
}
