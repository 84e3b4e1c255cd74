package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/tenantdb"
)

// maintenance is the database for what concerns the server.
const maintenance = "postgres"

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the server notices either way
}

// serverCheck is one look at a server, over an admin connection.
type serverCheck struct {
	name string
	run  func(ctx context.Context, d *Doctor, conn *pgx.Conn, f *findings) error
}

var serverChecks = []serverCheck{
	{"settings", lookAtSettings}, {"roles", queried(rolesSQL)}, {"memberships", queried(membershipsSQL)}, {"role-settings", queried(roleSettingsSQL)},
	{"databases", queried(databasesSQL)}, {"subscriptions", queried(subscriptionsSQL)}, {"hba", lookAtHBA}, {"live-tls", lookAtSessions},
}

// queried is a check whose query returns findings: severity, check, where, what, remedy.
func queried(sql string) func(context.Context, *Doctor, *pgx.Conn, *findings) error {
	return func(ctx context.Context, _ *Doctor, conn *pgx.Conn, f *findings) error {
		return query(ctx, conn, f, sql)
	}
}

func query(ctx context.Context, conn *pgx.Conn, f *findings, sql string, args ...any) error {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	var severity, check, where, what, remedy string
	_, err = pgx.ForEachRow(rows, []any{&severity, &check, &where, &what, &remedy}, func() error {
		f.add(Severity(severity), check, where, what, remedy)
		return nil
	})
	return err
}

// Names in the queries below: the roles of databases, and of ours beside them.
const (
	tenantRole = `'^t_[0-9a-f]{16}` + tenantdb.RolePattern + `$'`
	moverRole  = `'^t_[0-9a-f]{16}` + tenantdb.MoverPattern + `$'`
	// ofTenant is any role that begins as a database's do.
	ofTenant = `'^t_[0-9a-f]{16}(_|$)'`
	groups   = `('` + tenantdb.TenantLogins + `', '` + tenantdb.People + `', '` + tenantdb.Movers + `')`
)

// Superusers are the one that initdb made and the one we log in by and work as.
const rolesSQL = `
SELECT CASE WHEN r.rolsuper OR r.rolcreaterole OR r.rolreplication OR r.rolname ~ ` + ofTenant + ` THEN 'critical' ELSE 'warning' END, 'role-attributes', r.rolname::text,
	'the role has ' || concat_ws(', ', CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
		CASE WHEN r.rolreplication THEN 'REPLICATION' END, CASE WHEN r.rolbypassrls AND r.rolname !~ ` + moverRole + ` THEN 'BYPASSRLS' END),
	'ALTER ROLE ' || quote_ident(r.rolname) || ' NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS, or drop it'
FROM pg_catalog.pg_roles r
WHERE (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls AND r.rolname !~ ` + moverRole + `) AND r.oid <> 10 AND r.rolname NOT IN (current_user, session_user)
	AND NOT (NOT r.rolcanlogin AND r.rolname IN (current_user || '_a', current_user || '_b')) -- the admin login's other turn, closed
UNION ALL
SELECT 'critical', 'weak-verifier', a.rolname::text, 'its stored password is not SCRAM-SHA-256', 'set its password anew: ALTER ROLE ' || quote_ident(a.rolname) || ' PASSWORD …, with password_encryption = scram-sha-256'
FROM pg_catalog.pg_authid a WHERE a.rolpassword IS NOT NULL AND a.rolpassword !~ '^SCRAM-SHA-256\$'
UNION ALL
SELECT 'critical', 'apply-login', a.rolname::text, 'a password lets somebody log in who is meant for Postgres''s own worker', 'ALTER ROLE ' || quote_ident(a.rolname) || ' PASSWORD NULL'
FROM pg_catalog.pg_authid a WHERE a.rolname ~ '^t_[0-9a-f]{16}_apply$' AND a.rolpassword IS NOT NULL`

// A tenant's roles are members of each other and of the groups of logins.
const membershipsSQL = `
SELECT 'critical', 'membership', m.member::regrole::text, 'it is a member of ' || g.rolname, 'REVOKE ' || quote_ident(g.rolname) || ' FROM ' || quote_ident(r.rolname)
FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
WHERE r.rolname ~ ` + ofTenant + ` AND g.rolname NOT IN ` + groups + ` AND left(g.rolname, 18) <> left(r.rolname, 18) AND NOT (r.rolname ~ '_mv$' AND g.rolname = '` + tenantdb.Movers + `')
UNION ALL
SELECT 'critical', 'membership', r.rolname::text, 'it is a member of ' || g.rolname || ', a tenant''s role', 'REVOKE ' || quote_ident(g.rolname) || ' FROM ' || quote_ident(r.rolname)
FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
WHERE g.rolname ~ ` + ofTenant + ` AND r.rolname !~ ` + ofTenant + ` AND NOT r.rolsuper
UNION ALL
SELECT 'critical', 'membership', r.rolname::text, 'it may hand ' || g.rolname || ' on (ADMIN OPTION)', 'REVOKE ADMIN OPTION FOR ' || quote_ident(g.rolname) || ' FROM ' || quote_ident(r.rolname)
FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
WHERE m.admin_option AND NOT r.rolsuper AND (r.rolname ~ ` + ofTenant + ` OR g.rolname ~ ` + ofTenant + `)
UNION ALL
SELECT 'critical', 'server-files', r.rolname::text, 'it is a member of ' || g.rolname || ', and so reaches the server''s files or programs, or others'' data', 'REVOKE ' || g.rolname || ' FROM ' || quote_ident(r.rolname)
FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
WHERE g.rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program', 'pg_read_all_data', 'pg_write_all_data', 'pg_create_subscription', 'pg_maintain')
	AND NOT r.rolsuper AND r.rolname !~ ` + ofTenant

// Settings of a role are its own to change. What we set: the role it works as,
// read-only for viewers' SQL, and per database the limits.
const roleSettingsSQL = `
WITH setting AS (
	SELECT r.rolname::text AS login, split_part(s.one, '=', 1) AS name, substr(s.one, strpos(s.one, '=') + 1) AS value, left(r.rolname, 18) AS db, x.setdatabase
	FROM pg_catalog.pg_db_role_setting x JOIN pg_catalog.pg_roles r ON r.oid = x.setrole CROSS JOIN LATERAL unnest(x.setconfig) s(one)
	WHERE r.rolname ~ ` + ofTenant + `
)
SELECT CASE WHEN name IN ('role', 'session_authorization') THEN 'critical' ELSE 'warning' END, 'role-setting', login, 'it sets ' || name || CASE WHEN name = 'role' THEN ' to ' || value ELSE '' END,
	'ALTER ROLE ' || quote_ident(login) || CASE WHEN setdatabase <> 0 THEN ' IN DATABASE ' || db ELSE '' END || ' RESET ' || name
FROM setting
WHERE NOT (name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'temp_file_limit') AND setdatabase <> 0)
	AND NOT (name = 'default_transaction_read_only' AND login ~ '_sql_ro_[ab]$')
	AND NOT (name = 'role' AND (login ~ '_own_[ab]$' AND value = db || '_owner' OR login ~ '_sql_rw_[ab]$' AND value = db || '_rw' OR login ~ '_sql_ro_[ab]$' AND value = db || '_ro'
		OR login ~ '_tmp_[0-9a-f]{8}$' AND value IN (db || '_owner', db || '_rw', db || '_ro')))
UNION ALL
SELECT 'critical', 'role-setting', r.rolname::text, 'it does not say which role it works as', 'rotate the tenant''s secret, which makes its logins anew: tenant-ops secret rotate'
FROM pg_catalog.pg_roles r WHERE r.rolname ~ '^t_[0-9a-f]{16}_(own|sql_rw|sql_ro)_[ab]$' AND r.rolcanlogin AND NOT EXISTS (SELECT FROM setting s WHERE s.login = r.rolname AND s.name = 'role' AND s.setdatabase = 0)`

const databasesSQL = `
WITH granted AS (
	SELECT d.datname, a.grantee, coalesce(r.rolname::text, 'PUBLIC') AS who, a.privilege_type AS what, d.datdba, coalesce(r.rolsuper, false) AS super
	FROM pg_catalog.pg_database d CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
)
SELECT 'critical', 'public-grant', datname::text, 'PUBLIC has ' || string_agg(what, ', ' ORDER BY what) || ' on the database', 'REVOKE ALL ON DATABASE ' || quote_ident(datname) || ' FROM PUBLIC'
FROM granted WHERE grantee = 0 GROUP BY datname
UNION ALL
SELECT 'critical', 'connect-grant', datname::text, who || ' has ' || what, 'REVOKE ' || what || ' ON DATABASE ' || quote_ident(datname) || ' FROM ' || quote_ident(who)
FROM granted WHERE grantee <> 0 AND grantee <> datdba AND NOT super
	AND NOT (datname ~ '^t_[0-9a-f]{16}$' AND (who = datname OR who LIKE replace(datname, '_', '\_') || '\_%' OR who = '` + shard.BouncerRole + `' AND what = 'CONNECT'))
	AND NOT (datname IN ('` + shard.TemplateApp + `', '` + shard.TemplateBase + `') AND who = 'freehold_app_owner' AND what = 'CREATE')
UNION ALL
SELECT 'critical', 'database-owner', d.datname::text, 'the database belongs to ' || r.rolname || ', who may drop, rename and re-grant it', 'ALTER DATABASE ' || quote_ident(d.datname) || ' OWNER TO ' || quote_ident(current_user)
FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba WHERE NOT r.rolsuper`

// The worker of a subscription works with the rights of its owner, and runs with them what a tenant wrote.
const subscriptionsSQL = `
SELECT CASE WHEN s.subname LIKE 'freehold\_%' THEN 'warning' ELSE 'critical' END, 'subscription', d.datname || '.' || s.subname,
	CASE WHEN s.subname LIKE 'freehold\_%' THEN 'its worker applies changes as a superuser, as an older version of Freehold made it' ELSE 'it is not the platform''s, and reaches another server' END,
	CASE WHEN s.subname LIKE 'freehold\_%' THEN 'complete or reverse the move that it belongs to' ELSE 'DROP SUBSCRIPTION ' || quote_ident(s.subname) END
FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid JOIN pg_catalog.pg_roles r ON r.oid = s.subowner
WHERE s.subname NOT LIKE 'freehold\_%' OR r.rolsuper AND s.subenabled`

// wanted are settings that keep secrets and rows where they belong.
var wanted = []struct {
	name     string
	bad      func(value string) bool
	severity Severity
	what     string
	remedy   string
}{
	{"password_encryption", isNot("scram-sha-256"), Critical, "passwords are stored in a form that can be guessed fast, or replayed", "password_encryption = scram-sha-256"},
	{"log_statement", isNot("none"), Warning, "statements are logged with the values in them: rows, and what CREATE ROLE says", "log_statement = none"},
	{"log_min_duration_statement", isNot("-1"), Warning, "slow statements are logged with the values in them", "log_min_duration_statement = -1; pg_stat_statements tells which are slow, without values"},
	{"log_min_duration_sample", isNot("-1"), Warning, "statements are logged with the values in them", "log_min_duration_sample = -1"},
	{"log_transaction_sample_rate", isNot("0"), Warning, "statements are logged with the values in them", "log_transaction_sample_rate = 0"},
	{"log_parameter_max_length_on_error", isNot("0"), Warning, "values of parameters are logged with errors", "log_parameter_max_length_on_error = 0"},
	{"debug_print_parse", isNot("off"), Warning, "statements are logged with the values in them", "debug_print_parse = off"},
	{"debug_print_plan", isNot("off"), Warning, "statements are logged with the values in them", "debug_print_plan = off"},
	{"lo_compat_privileges", isNot("off"), Critical, "large objects have no owners", "lo_compat_privileges = off"},
	{"allow_system_table_mods", isNot("off"), Critical, "a superuser's mistake can change the catalogs", "allow_system_table_mods = off"},
	{"shared_preload_libraries", func(v string) bool { return strings.Contains(v, "auto_explain") }, Warning, "auto_explain logs statements with the values in them", "take auto_explain out of shared_preload_libraries"},
}

func isNot(good string) func(string) bool { return func(v string) bool { return v != good } }

func lookAtSettings(ctx context.Context, d *Doctor, conn *pgx.Conn, f *findings) error {
	rows, err := conn.Query(ctx, "SELECT name, reset_val FROM pg_catalog.pg_settings WHERE reset_val IS NOT NULL")
	if err != nil {
		return err
	}
	set := map[string]string{}
	var name, value string
	if _, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error { set[name] = value; return nil }); err != nil {
		return err
	}
	for _, w := range wanted {
		if v, there := set[w.name]; there && w.bad(v) {
			f.add(w.severity, "setting", w.name, fmt.Sprintf("it is %q: %s", v, w.what), w.remedy)
		}
	}
	if !d.expect.TLS && !d.expect.Production {
		return nil
	}
	if set["ssl"] != "on" {
		f.add(Critical, "tls", "ssl", "the server speaks no TLS", "ssl = on, with ssl_cert_file and ssl_key_file")
	}
	if v := set["ssl_min_protocol_version"]; v == "TLSv1" || v == "TLSv1.1" || v == "" {
		f.add(Warning, "tls", "ssl_min_protocol_version", fmt.Sprintf("it is %q", v), "ssl_min_protocol_version = TLSv1.2")
	}
	return nil
}

func lookAtSessions(ctx context.Context, d *Doctor, conn *pgx.Conn, f *findings) error {
	if !d.expect.TLS && !d.expect.Production {
		return nil
	}
	return query(ctx, conn, f, `SELECT 'critical', 'live-tls', coalesce(a.usename::text, '?'), count(*) || ' sessions over the network without TLS', 'have pg_hba.conf take hostssl only, and end them'
		FROM pg_catalog.pg_stat_ssl s JOIN pg_catalog.pg_stat_activity a USING (pid) WHERE NOT s.ssl AND a.client_addr IS NOT NULL GROUP BY a.usename`)
}

// known are those of the databases that are on the server and can be looked into.
func known(ctx context.Context, conn *pgx.Conn, names []string) ([]string, error) {
	rows, err := conn.Query(ctx, "SELECT datname::text FROM pg_catalog.pg_database WHERE datname = ANY ($1::text[]) AND datallowconn AND datconnlimit <> -2 ORDER BY 1", names)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
