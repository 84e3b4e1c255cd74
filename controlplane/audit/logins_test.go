package audit_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/internal/pgtest"
)

// first is the schema of before the tree.
func first(t *testing.T) fstest.MapFS {
	t.Helper()
	text, err := os.ReadFile("migrations/00001_audit.sql")
	require.NoError(t, err)
	return fstest.MapFS{"migrations/00001_audit.sql": {Data: text}}
}

// Records that were chained before there was a tree become its first leaves, and their chain still counts.
func TestAChainBecomesATree(t *testing.T) {
	t.Parallel()
	ctx, dsn := testContext(t), pgtest.Database(t)
	require.NoError(t, catalog.MigrateTo(ctx, dsn, first(t)))
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	const source, n = "0198a0de-0000-7000-8000-000000000001", 37
	prev := make([]byte, sha256.Size)
	for i := range n {
		r := record(i)
		r.Time = time.Now().UTC().Truncate(time.Microsecond)
		text, err := json.Marshal(map[string]any{"position": i + 1, "source": source, "sequence": i + 1, "logged_at": r.Time, "record": r})
		require.NoError(t, err)
		hash := sha256.Sum256(append(append([]byte{}, prev...), text...))
		_, err = conn.Exec(ctx, `insert into audit_log (position, source, sequence, logged_at, tenant, actor, action, happened, entry, prev_hash, hash)
			values ($1, $2, $1, $3, $4, $5, $6, $3, $7, $8, $9)`, i+1, source, r.Time, r.Tenant, r.Actor.Name, r.Action, string(text), prev, hash[:])
		require.NoError(t, err)
		prev = hash[:]
	}
	for range 2 { // again does nothing
		require.NoError(t, audit.Migrate(ctx, dsn))
	}
	log := openLog(t, dsn)
	holds(t, log, n)
	store := catalogtest.Open(t)
	relay(t, store, log, quiet)
	for i := range 4 {
		write(t, store, i)
	}
	holds(t, log, n+4)
	_, err = conn.Exec(ctx, `set session_replication_role = replica; update audit_log set chain_hash = sha256('x') where position = 9`)
	require.NoError(t, err)
	r := verify(t, log, nil, nil, nil)
	require.Equal(t, "chain", r.Problems[0].Kind)
}

func asLogin(t *testing.T, dsn string) string {
	t.Helper()
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	name := "audit_add_" + strings.TrimPrefix(u.Path, "/")
	_, err = conn.Exec(ctx, `create role `+pgx.Identifier{name}.Sanitize()+` login password 'x'`)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, `grant `+audit.WriterRole+` to `+pgx.Identifier{name}.Sanitize())
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close(ctx) }()
		_, _ = conn.Exec(ctx, `drop role `+pgx.Identifier{name}.Sanitize())
	})
	u.User = url.UserPassword(name, "x")
	return u.String()
}

// The control plane's login adds records, signs and reads, and can do nothing else.
func TestALoginThatOnlyAdds(t *testing.T) {
	t.Parallel()
	ctx, owner := testContext(t), pgtest.Database(t)
	require.NoError(t, catalog.MigrateTo(ctx, owner, first(t)))
	adds := asLogin(t, owner)
	_, _, err := audit.OpenAs(ctx, adds, "")
	require.ErrorIs(t, err, audit.ErrSchema, "nobody who may has migrated it")
	log, powers, err := audit.OpenAs(ctx, adds, owner)
	require.NoError(t, err)
	t.Cleanup(log.Close)
	require.False(t, powers.Owner)
	again, _, err := audit.OpenAs(ctx, adds, "") // a replica without the owner's login
	require.NoError(t, err)
	t.Cleanup(again.Close)
	store := catalogtest.Open(t)
	relay(t, store, log, quiet)
	for i := range 5 {
		write(t, store, i)
	}
	holds(t, log, 5)
	origin, err := log.Origin(ctx)
	require.NoError(t, err)
	signer := newSigner(t, origin)
	_, err = log.Sign(ctx, signer, proof.Checkpoint{})
	require.NoError(t, err)

	conn, err := pgx.Connect(ctx, adds)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, table := range []string{"audit_log", "audit_tree", "audit_checkpoints", "audit_keys", "audit_identity"} {
		for _, sql := range []string{"update " + table + " set ctid = ctid", "delete from " + table, "truncate " + table, "drop table " + table,
			"alter table " + table + " disable trigger all", "create rule r as on insert to " + table + " do instead nothing"} {
			_, err := conn.Exec(ctx, sql)
			require.Error(t, err, sql)
		}
	}
	// Nor has it another table of that name looked at instead: each record follows the last one.
	_, _ = conn.Exec(ctx, `create temp table audit_log (position bigint, source uuid, sequence bigint); insert into audit_log values (99, null, 1)`)
	_, err = conn.Exec(ctx, `insert into public.audit_log (position, source, sequence, logged_at, tenant, actor, action, happened, entry)
		select 100, source, 1, logged_at, tenant, actor, action, happened, entry from public.audit_log where position = 1`)
	require.ErrorContains(t, err, "does not follow record 5")
	for _, sql := range []string{"set session_replication_role = replica", "create table t ()", "create temp table t ()", "insert into audit_identity default values",
		"create or replace function audit_log_refuse() returns trigger language plpgsql as 'begin return new; end'", "drop function audit_log_refuse cascade"} {
		_, err := conn.Exec(ctx, sql)
		require.Error(t, err, sql)
	}
	r := verify(t, log, proof.Keys{{Verifier: signer.VerifierKey()}}, audit.SourceOf(store), nil)
	require.Empty(t, r.Problems)
	require.EqualValues(t, 5, r.Records)

	// What a tenant is shown is shown for a tenant that was said, and for no other.
	_, err = conn.Exec(ctx, `select * from audit_of_tenant`)
	require.ErrorContains(t, err, "freehold.tenant is not set")
	entries, _, err := log.ListTenant(ctx, "t3", audit.Filter{Tenant: "t4"}, catalog.Page{})
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.EqualValues(t, "t3", entries[0].Record.Tenant)
	above, _, err := log.List(ctx, audit.Filter{Upwards: true, Above: 3}, catalog.Page{})
	require.NoError(t, err)
	require.Len(t, above, 2)
	require.EqualValues(t, 4, above[0].Position)
}
