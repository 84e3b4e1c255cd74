package shard

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/schemachange"
)

// What is hidden from a tenant's logins in pg_catalog: others' sessions and
// locks, large objects, and what lets those who only read write to the log.
// Conditions on pg_proc p and pg_class c, for the doctor to look for them too.
const (
	HiddenFunctions = `p.pronamespace = 'pg_catalog'::regnamespace AND (
      p.proname ~ '^lo_' OR p.proname IN ('loread', 'lowrite')
      OR p.proname IN ('pg_stat_get_activity', 'pg_stat_get_wal_senders', 'pg_stat_get_wal_receiver', 'pg_stat_get_subscription',
        'pg_stat_get_progress_info', 'pg_lock_status', 'pg_prepared_xact', 'pg_get_replication_slots', 'pg_stat_get_replication_slot',
        'pg_blocking_pids', 'pg_safe_snapshot_blocking_pids', 'pg_tablespace_databases', 'pg_notification_queue_usage',
        'pg_show_replication_origin_status', 'pg_logical_emit_message')
      OR p.proname ~ '^pg_stat_get_(backend|db)_' OR p.proname = 'pg_tablespace_size')`
	HiddenViews = `c.relnamespace = 'pg_catalog'::regnamespace AND (c.relkind = 'v' AND (
      c.relname ~ '^pg_stat_(activity|replication|wal_receiver|subscription|ssl|gssapi|progress_|database)'
      OR c.relname IN ('pg_locks', 'pg_prepared_xacts', 'pg_replication_slots', 'pg_stat_replication_slots', 'pg_replication_origin_status'))
      OR c.relname = 'pg_db_role_setting')`
)

// hideSQL takes all that from PUBLIC. It may be run again.
const hideSQL = `DO $hide$
DECLARE f regprocedure; v regclass;
BEGIN
  FOR f IN SELECT p.oid FROM pg_catalog.pg_proc p WHERE ` + HiddenFunctions + `
  LOOP EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f); END LOOP;
  FOR v IN SELECT c.oid FROM pg_catalog.pg_class c WHERE ` + HiddenViews + `
  LOOP EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', v); END LOOP;
END $hide$;
`

// LookupBody is the body of the function by which PgBouncer asks for a login's
// verifier: that of a login of this very database, and nothing else.
const LookupBody = `
  SELECT a.rolname, a.rolpassword FROM pg_catalog.pg_authid a
  WHERE a.rolname = login AND a.rolcanlogin AND NOT a.rolsuper AND NOT a.rolreplication AND NOT a.rolbypassrls
    AND (a.rolvaliduntil IS NULL OR a.rolvaliduntil > now())
    AND EXISTS (SELECT FROM pg_catalog.pg_authid g
      WHERE g.rolname = current_database() AND pg_catalog.pg_has_role(a.oid, g.oid, 'MEMBER'))
`

const lookupSQL = `CREATE OR REPLACE FUNCTION ` + platformSchema + `.lookup(login text) RETURNS TABLE (usename name, passwd text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$` + LookupBody + `$$;`

// BaseMark is the comment of [TemplateBase] when it is up to date.
const BaseMark = "base " + baseVersion

// AppMark is that of [TemplateApp], for the migrations in a directory.
func AppMark(migrationsDir string) (string, error) {
	schema, err := ReadSchema(migrationsDir)
	return BaseMark + schema.mark(), err
}

// Softer lists the tenant databases of the server, up to limit and from after
// on, that were made from another template than today's and were not hardened
// since. Which it was is the comment of the anchor role, for each server makes
// its databases by itself.
func Softer(ctx context.Context, conn *pgx.Conn, after string, limit int) ([]string, error) {
	names, err := namesOf(ctx, conn, `
		SELECT d.datname::text FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.rolname = d.datname
		WHERE d.datname ~ '^t_[0-9a-f]{16}$' AND d.datname > $1 AND pg_catalog.shobj_description(r.oid, 'pg_authid') IS DISTINCT FROM $2
		ORDER BY d.datname LIMIT $3`, after, BaseMark, limit)
	if err != nil {
		return nil, fmt.Errorf("databases of an older template: %w", err)
	}
	return names, nil
}

// Harden brings a database that was made by an older version to the rights of
// today's template: what is hidden in pg_catalog, the lookup, and the check of the schema. conn is an
// admin connection inside it. It may be run again.
func Harden(ctx context.Context, conn *pgx.Conn) error {
	database := conn.Config().Database
	sql := schemachange.Unnoted + ";" + hideSQL + lookupSQL + schemachange.ExpectSQL + fmt.Sprintf(`
REVOKE ALL ON FUNCTION %[1]s.lookup(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION %[1]s.lookup(text) TO %[2]s;
REVOKE CREATE ON SCHEMA %[1]s FROM PUBLIC;
COMMENT ON ROLE %[3]s IS '%[4]s';`, platformSchema, BouncerRole, pg.Ident(AnchorRole(database)), BaseMark)
	if err := script(ctx, conn, sql); err != nil {
		return fmt.Errorf("harden %s: %w", database, err)
	}
	return nil
}
