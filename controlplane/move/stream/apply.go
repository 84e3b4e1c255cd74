package stream

import (
	"fmt"

	"github.com/freehold-db/freehold/internal/schemachange"
	"github.com/freehold-db/freehold/internal/tenantdb"
)

// guardName names the event trigger, and its function, that keep the owner of a
// subscription from changing it. Its name has it left out of what is carried.
const guardName = schemachange.TriggerPrefix + "apply_guard"

// applyRoleSQL makes the role that changes are made as, which can't be logged
// in to, and what keeps code that runs as it away from the subscription: its
// owner could point it to another server or database.
func applyRoleSQL(database string) string {
	role := tenantdb.ApplyRole(database) // names of databases need no quoting
	return fmt.Sprintf(`DO $apply$ BEGIN
  IF pg_catalog.to_regrole('%[1]s') IS NULL THEN CREATE ROLE %[1]s; END IF;
END $apply$;
ALTER ROLE %[1]s WITH LOGIN INHERIT BYPASSRLS NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD NULL;
ALTER ROLE %[1]s RESET ALL;
GRANT %[2]s TO %[1]s;
DO $apply$ BEGIN
  IF NOT pg_catalog.has_schema_privilege('%[1]s', 'freehold', 'USAGE') THEN GRANT USAGE ON SCHEMA freehold TO %[1]s; END IF;
END $apply$;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON freehold.barrier TO %[1]s;
CREATE OR REPLACE FUNCTION freehold.apply_guard() RETURNS event_trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $guard$
BEGIN
  IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
    RAISE EXCEPTION 'subscriptions are the platform''s' USING ERRCODE = 'insufficient_privilege';
  END IF;
END $guard$;
REVOKE ALL ON FUNCTION freehold.apply_guard() FROM PUBLIC;
DROP EVENT TRIGGER IF EXISTS %[3]s;
CREATE EVENT TRIGGER %[3]s ON ddl_command_start WHEN TAG IN ('CREATE SUBSCRIPTION', 'ALTER SUBSCRIPTION', 'DROP SUBSCRIPTION') EXECUTE FUNCTION freehold.apply_guard();
ALTER EVENT TRIGGER %[3]s ENABLE ALWAYS;
`, role, tenantdb.MoverRole(database), guardName)
}

// handOverSQL makes the role the subscription's owner. Postgres 15 wants a
// superuser for that, and runs the worker with what the owner may do at each
// change: so it is one inside this transaction, which nobody else ever sees.
func handOverSQL(database, subscription string) string {
	role := tenantdb.ApplyRole(database) // names of databases need no quoting
	return fmt.Sprintf("ALTER ROLE %[1]s SUPERUSER; ALTER SUBSCRIPTION %[2]s OWNER TO %[1]s; ALTER ROLE %[1]s NOSUPERUSER", role, subscription)
}

// dropGuardSQL takes away what applyRoleSQL made but the role itself.
func dropGuardSQL(database string) string {
	return fmt.Sprintf(`DROP EVENT TRIGGER IF EXISTS %[2]s; DROP FUNCTION IF EXISTS freehold.apply_guard();
DO $apply$ BEGIN
  IF pg_catalog.to_regrole('%[1]s') IS NOT NULL THEN REVOKE ALL ON freehold.barrier FROM %[1]s; END IF;
END $apply$`, tenantdb.ApplyRole(database), guardName)
}
