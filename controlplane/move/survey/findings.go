package survey

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Level says what a finding means for the move.
type Level string

const (
	Refuse Level = "refuse" // the move can't be made until somebody follows the remedy
	Wait   Level = "wait"   // goes away by itself; the move waits for it
	Warn   Level = "warn"   // the move goes on; somebody should know
)

// Finding is one thing that preflight found.
type Finding struct {
	Level  Level  `json:"level"`
	Code   string `json:"code"`
	Object string `json:"object,omitempty"`
	Reason string `json:"reason"`
	Remedy string `json:"remedy,omitempty"`
}

func (f Finding) String() string {
	s := f.Reason
	if f.Object != "" {
		s = f.Object + ": " + s
	}
	if f.Remedy != "" {
		s += " (" + f.Remedy + ")"
	}
	return s
}

// check is one query that returns an object's name per finding.
type check struct {
	level                     Level
	code, sql, reason, remedy string
}

const userSchema = ` n.nspname <> 'information_schema' AND n.nspname <> 'freehold' AND n.nspname NOT LIKE 'pg\_%' `

// checks find, inside the tenant's database, what a move would not carry. $1 is the move's own name.
var checks = []check{
	{Refuse, "large-objects", `SELECT pg_catalog.count(*)::text || ' large objects' FROM pg_catalog.pg_largeobject_metadata HAVING pg_catalog.count(*) > 0`,
		"large objects are not replicated by Postgres", "move their contents into bytea columns, or remove them with lo_unlink"},
	{Refuse, "unlogged-table", `SELECT c.oid::regclass::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relpersistence = 'u' AND c.relkind IN ('r', 'p', 'm') AND` + userSchema,
		"changes of an unlogged table are not replicated", "ALTER TABLE … SET LOGGED, or drop it"},
	{Refuse, "replica-trigger", `SELECT t.tgname || ' on ' || t.tgrelid::regclass::text FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal AND t.tgenabled IN ('A', 'R')`,
		"the trigger would fire once more at the target for every replicated row", "ALTER TABLE … ENABLE TRIGGER (without ALWAYS or REPLICA)"},
	{Refuse, "prepared-transaction", `SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()`,
		"a prepared transaction is open and would be lost", "COMMIT PREPARED or ROLLBACK PREPARED it"},
	{Refuse, "subscription", `SELECT s.subname::text FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = pg_catalog.current_database() AND s.subname <> $1::text`,
		"a subscription of the tenant's own is not carried", "drop the subscription"},
	{Refuse, "publication", `SELECT pubname::text FROM pg_catalog.pg_publication WHERE pubname <> $1::text AND pubname NOT LIKE 'freehold\_move\_%'`,
		"a publication of the tenant's own is not carried", "drop the publication"},
	{Refuse, "logical-slot", `SELECT slot_name::text FROM pg_catalog.pg_replication_slots WHERE database = pg_catalog.current_database() AND slot_name <> $1::text`,
		"a logical replication slot is not carried", "drop it with pg_drop_replication_slot"},
	{Refuse, "event-trigger", `SELECT evtname::text FROM pg_catalog.pg_event_trigger WHERE evtname NOT LIKE 'freehold\_%'`,
		"event triggers are not carried", "drop the event trigger"},
	{Refuse, "foreign-data", `SELECT fdwname::text FROM pg_catalog.pg_foreign_data_wrapper w
			WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_foreign_data_wrapper'::regclass AND d.objid = w.oid AND d.deptype = 'e')
		UNION ALL SELECT srvname::text FROM pg_catalog.pg_foreign_server`,
		"foreign data wrappers and servers are not carried", "drop it with its foreign tables"},
	{Refuse, "tablespace", `SELECT c.oid::regclass::text FROM pg_catalog.pg_class c WHERE c.reltablespace <> 0 AND NOT c.relisshared`,
		"it lies in a tablespace of its own, which the target may not have", "ALTER … SET TABLESPACE pg_default"},
	{Refuse, "security-label", `SELECT DISTINCT provider FROM pg_catalog.pg_seclabel`,
		"security labels are not carried", "SECURITY LABEL … IS NULL"},
	{Refuse, "invalid-index", `SELECT indexrelid::regclass::text FROM pg_catalog.pg_index WHERE NOT indisvalid AND indexrelid >= 16384
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = indexrelid AND c.relkind = 'I')`,
		"the index is invalid (an interrupted CREATE INDEX CONCURRENTLY)", "REINDEX or drop it"},
	{Refuse, "foreign-role", `SELECT DISTINCT r.rolname::text FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_authid r ON r.oid = s.refobjid
		WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass
		AND s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
		AND r.rolname <> pg_catalog.current_database() AND r.rolname NOT LIKE pg_catalog.replace(pg_catalog.current_database(), '_', '\_') || '\_%'
		AND r.rolname NOT LIKE 'freehold\_%' AND r.rolname NOT LIKE 'pg\_%' AND NOT r.rolsuper`,
		"a role that is not the tenant's own owns something or was granted something", "REASSIGN OWNED or REVOKE"},
	{Refuse, "superusers-relation", `SELECT c.oid::regclass::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_authid r ON r.oid = c.relowner
		WHERE c.relkind IN ('r', 'p', 'm') AND r.rolsuper AND` + userSchema + `
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`,
		"it belongs to a superuser: what is defined on it would run as that, and the login that copies may not read it", "ALTER … OWNER TO the database's owner role"},
	{Refuse, "no-rights", `SELECT c.oid::regclass::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.relacl IS NOT NULL AND` + userSchema + `
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
		AND (SELECT pg_catalog.count(DISTINCT a.privilege_type) FROM pg_catalog.aclexplode(c.relacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
			WHERE a.privilege_type IN ('SELECT', 'INSERT')
			AND (a.grantee = 0 OR r.rolname = pg_catalog.current_database() OR pg_catalog.starts_with(r.rolname, pg_catalog.current_database() || '_'))) < 2`,
		"none of the tenant's roles may SELECT from it and INSERT into it, and so the login that copies may not either", "GRANT SELECT, INSERT to the database's owner role"},
	{Refuse, "no-rights", `SELECT 'schema ' || pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_namespace n
		WHERE n.nspacl IS NOT NULL AND` + userSchema + `
		AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'm'))
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e')
		AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(n.nspacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
			WHERE a.privilege_type = 'CREATE'
			AND (a.grantee = 0 OR r.rolname = pg_catalog.current_database() OR pg_catalog.starts_with(r.rolname, pg_catalog.current_database() || '_')))`,
		"none of the tenant's roles may CREATE in it, and so the login that makes its tables and indexes may not either", "GRANT CREATE to the database's owner role"},
	{Wait, "long-transaction", `SELECT 'pid ' || pid || ' of ' || coalesce(usename, '?') || ' in ' || coalesce(datname, '?') || ', open for ' ||
			pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - xact_start)::text
		FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL AND xact_start < pg_catalog.clock_timestamp() - interval '30 seconds'`,
		"the copy can't start before this writing transaction ends", "end it"},
	{Warn, "whole-row-identity", `SELECT c.oid::regclass::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.reltuples > 10000 AND` + userSchema + `
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL)`,
		"no key: each replicated update or delete reads the whole table at the target", "give it a primary key"},
	{Warn, "materialized-view", `SELECT c.oid::regclass::text FROM pg_catalog.pg_class c WHERE c.relkind = 'm' AND c.relispopulated`,
		"materialized views are refreshed at the target, so they show data as new as the move", ""},
}

// Inside lists what in the tenant's database stands in the way. own is the
// name of the move's own publication, subscription and slot.
func Inside(ctx context.Context, conn *pgx.Conn, own string) ([]Finding, error) {
	batch := &pgx.Batch{}
	for _, c := range checks {
		if strings.Contains(c.sql, "$1") {
			batch.Queue(c.sql, own)
		} else {
			batch.Queue(c.sql)
		}
	}
	results := conn.SendBatch(ctx, batch)
	defer results.Close() //nolint:errcheck // reported by the queries below
	var found []Finding
	for _, c := range checks {
		rows, err := results.Query()
		if err != nil {
			return nil, fmt.Errorf("preflight %s: %w", c.code, err)
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, fmt.Errorf("preflight %s: %w", c.code, err)
		}
		for _, name := range names {
			found = append(found, Finding{Level: c.level, Code: c.code, Object: name, Reason: c.reason, Remedy: c.remedy})
		}
	}
	if err := results.Close(); err != nil {
		return nil, fmt.Errorf("preflight: %w", err)
	}
	for _, look := range []func(context.Context, *pgx.Conn) ([]Finding, error){extensionTables, largeRows} {
		more, err := look(ctx, conn)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// Identities lists tables whose changes can't be replicated whatever we do.
func Identities(tables []Table) []Finding {
	var found []Finding
	for _, t := range tables {
		if t.Want == ByWholeRow && t.NoEquality != "" {
			found = append(found, Finding{Level: Refuse, Code: "replica-identity", Object: t.Ident(),
				Reason: "it has no key, and rows can't be found by their whole contents because type " + t.NoEquality + " has no equality",
				Remedy: "give it a primary key"})
		}
	}
	return found
}

// Server is what one side's server offers.
type Server struct {
	Version                        int // server_version_num
	WALLevel                       string
	FreeSlots, FreeSenders         int
	FreeOrigins                    int // what subscriptions follow their sources by
	FreeWorkers                    int // logical replication workers
	Encoding, Collate, Ctype       string
	Provider, CollVersion, ICULang string
	MaxLocks                       int // objects that all transactions together may lock
}

const serverSQL = `
SELECT current_setting('server_version_num')::int, current_setting('wal_level'),
	current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots)::int,
	coalesce(current_setting('max_active_replication_origins', true), current_setting('max_replication_slots'))::int
		- (SELECT count(*) FROM pg_replication_origin_status)::int, -- the setting is 18's
	current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender')::int,
	LEAST(current_setting('max_logical_replication_workers')::int, current_setting('max_worker_processes')::int)
		- (SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'logical replication%worker')::int,
	pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, d.datlocprovider::text,
	coalesce(pg_database_collation_actual_version(d.oid), ''), coalesce(d.daticulocale, ''),
	current_setting('max_locks_per_transaction')::int * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int)
FROM pg_database d WHERE d.datname = $1`

// ReadServer reads the server's limits, and the named database's locale
// (a template stands for what will be made of it).
func ReadServer(ctx context.Context, conn *pgx.Conn, database string) (Server, error) {
	var s Server
	var version int
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return s, fmt.Errorf("read server version: %w", err)
	}
	sql := serverSQL
	if version >= 170000 {
		sql = strings.Replace(sql, "d.daticulocale", "d.datlocale", 1)
	}
	err := conn.QueryRow(ctx, sql, database).Scan(&s.Version, &s.WALLevel, &s.FreeSlots, &s.FreeOrigins, &s.FreeSenders, &s.FreeWorkers,
		&s.Encoding, &s.Collate, &s.Ctype, &s.Provider, &s.CollVersion, &s.ICULang, &s.MaxLocks)
	if err != nil {
		return s, fmt.Errorf("read limits of the server of %s: %w", database, err)
	}
	return s, nil
}

// Between compares the two servers. streams is how many walsenders the move uses.
func Between(src, dst Server) []Finding {
	var found []Finding
	refuse := func(code, reason, remedy string) {
		found = append(found, Finding{Level: Refuse, Code: code, Reason: reason, Remedy: remedy})
	}
	if dst.Version/10000 < src.Version/10000 {
		refuse("version", fmt.Sprintf("the target runs Postgres %d, older than the source's %d", dst.Version/10000, src.Version/10000), "choose a shard at the same or a newer version")
	}
	if src.WALLevel != "logical" {
		refuse("wal-level", "the source's wal_level is "+src.WALLevel, "set wal_level = logical and restart it")
	}
	if src.FreeSlots < 1 {
		refuse("slots", "the source has no free replication slot", "raise max_replication_slots, or wait for other moves")
	}
	if src.FreeSenders < 2 {
		refuse("senders", fmt.Sprintf("the source has %d free WAL senders, a move needs 2", src.FreeSenders), "raise max_wal_senders, or wait for other moves")
	}
	if dst.FreeOrigins < 1 {
		refuse("origins", "the target has no free replication origin", "raise max_replication_slots there (from Postgres 18 on: max_active_replication_origins), or wait for other moves")
	}
	if dst.FreeWorkers < 1 {
		refuse("workers", "the target has no free logical replication worker", "raise max_logical_replication_workers and max_worker_processes there, or wait for other moves")
	}
	if src.Encoding != dst.Encoding || src.Collate != dst.Collate || src.Ctype != dst.Ctype || src.Provider != dst.Provider || src.ICULang != dst.ICULang {
		refuse("locale", fmt.Sprintf("the target's template has encoding %s, collation %s/%s, the source %s, %s/%s",
			dst.Encoding, dst.Collate, dst.Ctype, src.Encoding, src.Collate, src.Ctype), "choose a shard made with the same locale")
	}
	if src.CollVersion != dst.CollVersion {
		found = append(found, Finding{Level: Warn, Code: "collation-version",
			Reason: fmt.Sprintf("the collation library is at version %q at the source and %q at the target: text may sort differently", src.CollVersion, dst.CollVersion)})
	}
	return found
}

// OldestWrite is the age of the oldest transaction in the current database
// that is not ours, 0 if there is none, and who it is.
func OldestWrite(ctx context.Context, conn *pgx.Conn) (age time.Duration, who string, err error) {
	var seconds float64
	err = conn.QueryRow(ctx, `
SELECT coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)::float8,
	'pid ' || pid || ' of ' || coalesce(usename, '?') || ', ' || coalesce(state, '?')
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
	-- A clone only reads, and a cutover ends no session of it. What a tenant's session calls itself counts for nothing.
	AND NOT (application_name IN ('freehold-move', 'freehold-clone') AND coalesce((SELECT rolsuper OR rolname ~ ('^' || current_database() || '_mv_[0-9a-f]{8}$') FROM pg_roles WHERE oid = usesysid), false))
ORDER BY xact_start LIMIT 1`).Scan(&seconds, &who)
	if err == pgx.ErrNoRows { //nolint:errorlint // Scan returns it bare
		return 0, "", nil
	}
	return time.Duration(seconds * float64(time.Second)), who, err
}
