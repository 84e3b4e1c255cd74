package doctor

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

// listed bounds the objects of one kind that are named of one database.
const listed = 20

// reaching are extensions and languages by which SQL reaches the server's files,
// its programs or other servers.
const reaching = `('dblink', 'postgres_fdw', 'file_fdw', 'adminpack', 'plpython3u', 'plpython2u', 'plpythonu', 'plperlu', 'pltclu', 'plsh', 'pageinspect', 'pg_walinspect', 'pg_surgery', 'http', 'pg_net', 'pg_cron', 'oracle_fdw', 'mysql_fdw', 'aws_s3', 'orafce')`

// user are the schemas of tenants, and outside leaves out what belongs to an extension.
const user = `n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'`

func outside(catalog, oid string) string {
	return fmt.Sprintf("NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.%s'::regclass AND e.objid = %s AND e.deptype = 'e')", catalog, oid)
}

// insideSQL is one look into a database. $1 is its name, $2 the lookup's body, $3 PgBouncer's role.
var insideSQL = `
(SELECT CASE WHEN x.privilege_type = 'CREATE' THEN 'critical' ELSE 'warning' END, 'public-grant', $1::text, 'PUBLIC has ' || x.privilege_type || ' on schema ' || quote_ident(n.nspname),
	'REVOKE ' || x.privilege_type || ' ON SCHEMA ' || quote_ident(n.nspname) || ' FROM PUBLIC'
FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x
WHERE ` + user + ` AND x.grantee = 0 AND NOT (n.nspname = 'freehold' AND x.privilege_type = 'USAGE') LIMIT ` + fmt.Sprint(listed) + `)
UNION ALL
(SELECT 'warning', 'public-grant', $1, 'PUBLIC has ' || string_agg(x.privilege_type, ', ') || ' on ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'REVOKE ALL ON ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname) || ' FROM PUBLIC'
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL aclexplode(c.relacl) x
WHERE ` + user + ` AND n.nspname <> 'freehold' AND x.grantee = 0 AND ` + outside("pg_class", "c.oid") + ` GROUP BY n.nspname, c.relname LIMIT ` + fmt.Sprint(listed) + `)
UNION ALL
(SELECT 'warning', 'public-grant', $1, 'PUBLIC may call ' || p.oid::regprocedure::text || CASE WHEN p.prosecdef THEN ', which runs as its owner' ELSE '' END, 'REVOKE ALL ON ROUTINE ' || p.oid::regprocedure::text || ' FROM PUBLIC'
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
WHERE ` + user + ` AND n.nspname <> 'freehold' AND x.grantee = 0 AND $1 <> '` + shard.TemplateApp + `' AND p.prorettype <> 'pg_catalog.trigger'::regtype AND ` + outside("pg_proc", "p.oid") + ` LIMIT ` + fmt.Sprint(listed) + `)
UNION ALL
(SELECT 'warning', 'hidden', $1, 'PUBLIC may call ' || count(*) || ' functions that the template hides: ' || string_agg(p.proname::text, ', ' ORDER BY p.proname), 'restart the control plane, whose keeper hardens older databases; or REVOKE ALL ON FUNCTION … FROM PUBLIC'
FROM pg_catalog.pg_proc p WHERE ` + shard.HiddenFunctions + ` AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x WHERE x.grantee = 0) HAVING count(*) > 0)
UNION ALL
(SELECT 'warning', 'hidden', $1, 'PUBLIC may read ' || string_agg(c.relname::text, ', ' ORDER BY c.relname) || ', which the template hides', 'REVOKE ALL ON pg_catalog.… FROM PUBLIC'
FROM pg_catalog.pg_class c WHERE ` + shard.HiddenViews + ` AND EXISTS (SELECT FROM aclexplode(c.relacl) x WHERE x.grantee = 0) HAVING count(*) > 0)
UNION ALL
(SELECT 'critical', 'hidden', $1, r.rolname || ' was given ' || p.oid::regprocedure::text || ', which the server keeps for superusers or hides', 'REVOKE ALL ON FUNCTION pg_catalog.' || p.oid::regprocedure::text || ' FROM ' || quote_ident(r.rolname)
FROM pg_catalog.pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) x JOIN pg_catalog.pg_roles r ON r.oid = x.grantee
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND x.grantee <> p.proowner AND NOT r.rolsuper AND r.rolname NOT LIKE 'pg\_%' LIMIT ` + fmt.Sprint(listed) + `)
UNION ALL
SELECT 'critical', 'extension', $1, 'extension ' || e.extname || ' reaches the server''s files or programs, or other servers', 'DROP EXTENSION ' || quote_ident(e.extname)
FROM pg_catalog.pg_extension e WHERE e.extname IN ` + reaching + `
UNION ALL
SELECT 'critical', 'language', $1, 'language ' || l.lanname || ' is untrusted: its functions do what the server''s user may', 'DROP LANGUAGE ' || quote_ident(l.lanname)
FROM pg_catalog.pg_language l WHERE l.lanispl AND NOT l.lanpltrusted
UNION ALL
SELECT 'critical', 'foreign-server', $1, 'foreign server ' || s.srvname || ' is reached from here', 'DROP SERVER ' || quote_ident(s.srvname) || ' CASCADE' FROM pg_catalog.pg_foreign_server s
UNION ALL
(SELECT 'critical', 'native-code', $1, p.oid::regprocedure::text || ' is a function in C that belongs to no extension', 'DROP ROUTINE ' || p.oid::regprocedure::text
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE ` + user + ` AND l.lanname IN ('c', 'internal') AND ` + outside("pg_proc", "p.oid") + ` LIMIT ` + fmt.Sprint(listed) + `)
UNION ALL
(SELECT 'critical', 'superusers-code', $1, p.oid::regprocedure::text || ' runs as the superuser ' || r.rolname || ', whoever calls it', 'ALTER ROUTINE ' || p.oid::regprocedure::text || ' OWNER TO ' || $1 || '_owner, or SECURITY INVOKER'
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_roles r ON r.oid = p.proowner
WHERE ` + user + ` AND n.nspname <> 'freehold' AND p.prosecdef AND r.rolsuper AND ` + outside("pg_proc", "p.oid") + ` LIMIT ` + fmt.Sprint(listed) + `)
UNION ALL
(SELECT 'warning', 'superusers-table', $1, quote_ident(n.nspname) || '.' || quote_ident(c.relname) || ' belongs to the superuser ' || r.rolname || ', and what is defined on it runs as that', 'ALTER … OWNER TO ' || $1 || '_owner'
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
WHERE ` + user + ` AND n.nspname <> 'freehold' AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND r.rolsuper AND ` + outside("pg_class", "c.oid") + ` LIMIT ` + fmt.Sprint(listed) + `)
UNION ALL
SELECT 'warning', 'event-trigger', $1, 'event trigger ' || t.evtname || ' runs in every session that changes the schema, a superuser''s too', 'DROP EVENT TRIGGER ' || quote_ident(t.evtname)
FROM pg_catalog.pg_event_trigger t WHERE t.evtname NOT LIKE 'freehold\_%' AND ` + outside("pg_event_trigger", "t.oid") + `
UNION ALL
SELECT 'critical', 'lookup', $1, CASE WHEN p.oid IS NULL THEN 'there is no freehold.lookup(text): PgBouncer lets nobody in'
	WHEN p.prosrc <> $2 THEN 'the body of freehold.lookup(text) is not the platform''s' WHEN NOT p.prosecdef OR p.proconfig IS DISTINCT FROM ARRAY['search_path=pg_catalog, pg_temp'] THEN 'freehold.lookup(text) has other settings'
	WHEN NOT o.rolsuper THEN 'freehold.lookup(text) belongs to ' || o.rolname ELSE 'others than PgBouncer''s role may call freehold.lookup(text)' END, 'restart the control plane after DROP FUNCTION freehold.lookup(text), or have it put back as the template has it'
FROM (SELECT pg_catalog.to_regprocedure('freehold.lookup(text)') AS f) x LEFT JOIN pg_catalog.pg_proc p ON p.oid = x.f LEFT JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
WHERE p.oid IS NULL OR p.prosrc <> $2 OR NOT p.prosecdef OR p.proconfig IS DISTINCT FROM ARRAY['search_path=pg_catalog, pg_temp'] OR NOT o.rolsuper
	OR EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee WHERE a.grantee <> p.proowner AND g.rolname IS DISTINCT FROM $3)`

// lookInto looks into one database.
func (d *Doctor) lookInto(ctx context.Context, f *findings, on shardmap.ShardID, name string) {
	conn, err := d.fleet.Admin(ctx, on, name)
	if err != nil {
		f.add(Unknown, "unreachable", name, err.Error(), "look again")
		return
	}
	defer closeConn(conn)
	if err := query(ctx, conn, f, insideSQL, name, shard.LookupBody, shard.BouncerRole); err != nil {
		f.add(Unknown, "inside", name, err.Error(), "look again")
	}
}

// lookAtTemplates compares the templates' marks with what they are to be.
func (d *Doctor) lookAtTemplates(ctx context.Context, f *findings, conn *pgx.Conn) {
	app, err := shard.AppMark(d.expect.Migrations)
	if err != nil {
		f.add(Unknown, "template", shard.TemplateApp, err.Error(), "see that the migrations can be read")
		return
	}
	for name, want := range map[string]string{shard.TemplateBase: shard.BaseMark, shard.TemplateApp: app} {
		var has string
		err := conn.QueryRow(ctx, `SELECT coalesce((SELECT coalesce(pg_catalog.shobj_description(oid, 'pg_database'), '') || CASE WHEN datconnlimit = 0 THEN '' ELSE ', and open' END
			FROM pg_catalog.pg_database WHERE datname = $1 AND datistemplate), 'not there')`, name).Scan(&has)
		switch {
		case err != nil:
			f.add(Unknown, "template", name, err.Error(), "look again")
		case has != want:
			f.add(Warning, "template", name, fmt.Sprintf("the template is %q, not %q", has, want), "restart the control plane, which makes the templates anew")
		}
	}
}

// verifiersChecked bounds the databases of a shard whose stored passwords are
// compared with the secret: each takes thousands of hashes.
const verifiersChecked = 50

// lookAtVerifiers compares logins with the databases' secrets: who is logged in
// may change the own password.
func (d *Doctor) lookAtVerifiers(ctx context.Context, f *findings, conn *pgx.Conn, names []string) {
	for _, name := range names[:min(len(names), verifiersChecked)] {
		if timeIsUp(ctx) {
			return
		}
		ok, what, err := d.verifies(ctx, conn, name)
		switch {
		case err != nil:
			f.add(Unknown, "verifier", name, err.Error(), "see that the secret store can be reached")
		case !ok:
			f.add(Warning, "verifier", what, "its password is not the one that the secret store has: somebody has changed it", "tenant-ops secret rotate")
		}
	}
}

var logins = []tenantdb.Login{tenantdb.REST, tenantdb.Owner, tenantdb.SQLWrite, tenantdb.SQLRead}

func (d *Doctor) lookAtSecrets(f *findings) {
	if d.expect.SecretsDir == "" {
		return
	}
	if d.expect.Production {
		f.add(Critical, "secret-store", d.expect.SecretsDir, "production keeps its secrets in the embedded store, on one machine's disk", "use Vault (docs/operators/secrets.md)")
	}
	for _, p := range slices.Compact(readable(d.expect.SecretsDir)) {
		f.add(Critical, "secret-store", p, "others than its owner may read or write it", "chmod go-rwx "+p)
	}
}
