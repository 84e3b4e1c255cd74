package shard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
)

// role is one role of a database as pg_authid holds it.
type role struct {
	Name       string
	CanLogin   bool
	Inherit    bool
	Limit      int
	ValidUntil *string    // as text: 'infinity' is no time
	Verifier   *string    // stored, never a password in the clear
	Settings   []string   // of the role in all databases: "name=value"
	Groups     [][]string // memberships: group, then admin, inherit and set option as "true", "false", or "" where the server does not know it
}

func readRoles(ctx context.Context, conn *pgx.Conn, database string) ([]role, error) {
	if _, err := roleNames(ctx, conn, database); err != nil { // refuses a malformed name
		return nil, err
	}
	rows, err := conn.Query(ctx, `
		SELECT a.rolname::text, a.rolcanlogin, a.rolinherit, a.rolconnlimit, a.rolvaliduntil::text, a.rolpassword,
		  coalesce((SELECT s.setconfig FROM pg_catalog.pg_db_role_setting s WHERE s.setrole = a.oid AND s.setdatabase = 0), '{}'),
		  coalesce((SELECT array_agg(ARRAY[g.rolname::text, m.admin_option::text,
		      coalesce(pg_catalog.to_jsonb(m)->>'inherit_option', ''), coalesce(pg_catalog.to_jsonb(m)->>'set_option', '')] ORDER BY g.rolname)
		    FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_authid g ON g.oid = m.roleid WHERE m.member = a.oid), '{}')
		FROM pg_catalog.pg_authid a WHERE a.`+roleFilter+` ORDER BY a.rolcanlogin, a.rolname`, database)
	if err != nil {
		return nil, fmt.Errorf("roles of %s: %w", database, err)
	}
	roles, err := pgx.CollectRows(rows, pgx.RowToStructByPos[role])
	if err != nil {
		return nil, fmt.Errorf("roles of %s: %w", database, err)
	}
	return roles, nil
}

// CopyRoles copies every role of the database (anchor, owner, rw, ro, all
// logins) from src's server to dst's, with the stored verifiers byte for byte
// (PgBouncer logs in with a client key made from them), VALID UNTIL,
// connection limits, memberships and the roles' own settings. Settings bound
// to the database need the database there: see [SyncRoles]. Memberships in
// roles that are not this database's are not copied.
func CopyRoles(ctx context.Context, src, dst *pgx.Conn, database string) error {
	roles, err := readRoles(ctx, src, database)
	if err != nil {
		return err
	}
	if len(roles) == 0 {
		return fmt.Errorf("roles of %s: the source has none", database)
	}
	there, err := existingRoles(ctx, dst, database)
	if err != nil {
		return err
	}
	sql, err := rolesScript(roles, there, pg.Major(dst))
	if err != nil {
		return fmt.Errorf("copy roles of %s: %w", database, err)
	}
	if err := script(ctx, dst, sql); err != nil {
		return fmt.Errorf("copy roles of %s: %w", database, err)
	}
	return nil
}

// rolesScript makes the roles, then their memberships, on a server of this
// major version that has those in there.
func rolesScript(roles []role, there map[string]bool, major int) (string, error) {
	ours := map[string]bool{}
	for _, r := range roles {
		ours[r.Name] = true
	}
	var b strings.Builder
	for _, r := range roles {
		if err := writeRole(&b, r, there[r.Name]); err != nil {
			return "", err
		}
	}
	for _, r := range roles {
		writeMemberships(&b, r, ours, major)
	}
	return b.String(), nil
}

// writeRole makes one role, or brings the one that is there to its shape.
func writeRole(b *strings.Builder, r role, there bool) error {
	verb := "CREATE"
	if there {
		verb = "ALTER"
	}
	password := "NULL"
	if r.Verifier != nil {
		if !strings.HasPrefix(*r.Verifier, "SCRAM-SHA-256$") {
			return fmt.Errorf("role %s: its verifier is not SCRAM-SHA-256", r.Name) // md5 would be hashed again
		}
		lit, err := pg.Literal(*r.Verifier)
		if err != nil {
			return err
		}
		password = lit
	}
	until := "infinity"
	if r.ValidUntil != nil {
		until = *r.ValidUntil
	}
	untilLit, err := pg.Literal(until)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "%s ROLE %s WITH NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS %s %s CONNECTION LIMIT %d PASSWORD %s VALID UNTIL %s;\n",
		verb, pg.Ident(r.Name), flag(r.CanLogin, "LOGIN"), flag(r.Inherit, "INHERIT"), r.Limit, password, untilLit)
	enlist(b, r.Name)
	if there {
		fmt.Fprintf(b, "ALTER ROLE %s RESET ALL;\n", pg.Ident(r.Name))
	}
	return writeSettings(b, "ALTER ROLE "+pg.Ident(r.Name), r.Settings)
}

// writeMemberships grants what r is a member of, as far as that is ours.
func writeMemberships(b *strings.Builder, r role, ours map[string]bool, major int) {
	for _, g := range r.Groups {
		if ours[g[0]] {
			b.WriteString(membership(r, g, major))
		}
	}
}

// membership grants what g says. From 16 on a membership has options of its
// own, which before followed from the member: INHERIT was its attribute, and
// SET ROLE was always possible.
func membership(r role, g []string, major int) string {
	group, admin, inherit, set := g[0], g[1] == "true", g[2], g[3]
	if major < 16 {
		switch {
		case set == "false":
			return "" // it would be more than was granted
		case admin:
			return fmt.Sprintf("GRANT %s TO %s WITH ADMIN OPTION;\n", pg.Ident(group), pg.Ident(r.Name))
		}
		return fmt.Sprintf("GRANT %s TO %s;\n", pg.Ident(group), pg.Ident(r.Name))
	}
	return fmt.Sprintf("GRANT %s TO %s WITH ADMIN %t, INHERIT %s, SET %s;\n", pg.Ident(group), pg.Ident(r.Name), admin,
		cmp.Or(inherit, strconv.FormatBool(r.Inherit)), cmp.Or(set, "true"))
}

func flag(on bool, word string) string {
	if on {
		return word
	}
	return "NO" + word
}

// listSettings are those whose value is a list of names: quoted as one literal
// they would become one strange name (pg_dumpall knows the same list).
var listSettings = map[string]bool{
	"search_path": true, "temp_tablespaces": true, "session_preload_libraries": true,
	"shared_preload_libraries": true, "local_preload_libraries": true, "unix_socket_directories": true,
}

// writeSettings writes `<prefix> SET name = value` for each "name=value". The
// values are the tenant's: everybody may set what belongs to the own login.
func writeSettings(b *strings.Builder, prefix string, settings []string) error {
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		parts := strings.Split(name, ".")
		for i, p := range parts {
			parts[i] = pg.Ident(p)
		}
		values := []string{value}
		if listSettings[strings.ToLower(name)] {
			var err error
			if values, err = splitList(value); err != nil {
				return fmt.Errorf("setting %s: %w", name, err)
			}
		}
		for i, v := range values {
			lit, err := pg.Literal(v)
			if err != nil {
				return fmt.Errorf("setting %s: %w", name, err)
			}
			values[i] = lit
		}
		fmt.Fprintf(b, "%s SET %s TO %s;\n", prefix, strings.Join(parts, "."), strings.Join(values, ", "))
	}
	return nil
}

var errList = errors.New("it is no list of names")

// splitList takes a stored list apart as Postgres does; an empty one has one
// empty name. It is not to be taken for SQL: SET … FROM CURRENT stores what was
// set as it is, in which a name without quotes may have anything but space and commas.
func splitList(list string) ([]string, error) {
	const space = " \t\n\r\f\v"
	rest := strings.Trim(list, space)
	if rest == "" {
		return []string{""}, nil
	}
	var names []string
	for {
		var name string
		if strings.HasPrefix(rest, `"`) {
			end := 1
			for ; end < len(rest); end++ {
				if rest[end] == '"' {
					if end+1 == len(rest) || rest[end+1] != '"' {
						break
					}
					end++
				}
			}
			if end >= len(rest) {
				return nil, errList
			}
			name, rest = strings.ReplaceAll(rest[1:end], `""`, `"`), rest[end+1:]
		} else {
			end := strings.IndexAny(rest, space+",")
			if end < 0 {
				end = len(rest)
			}
			name, rest = rest[:end], rest[end:]
		}
		names = append(names, name)
		if rest = strings.TrimLeft(rest, space); rest == "" {
			return names, nil
		}
		if rest[0] != ',' {
			return nil, errList
		}
		rest = strings.TrimLeft(rest[1:], space)
	}
}

// CreateTarget makes what a move fills at dst: all roles, and the fenced,
// empty database from freehold_base with the source's database and
// role-in-database settings and CONNECT for the same logins. src and dst are
// admin connections to any database of their servers (dst's not to this one). A fenced database of
// that name at dst is a leftover of a try before and is replaced. Errors: [ErrInUse].
func CreateTarget(ctx context.Context, src, dst *pgx.Conn, database string) error {
	if err := CopyRoles(ctx, src, dst, database); err != nil {
		return err
	}
	if err := createDatabase(ctx, dst, database, TemplateBase); err != nil {
		return err
	}
	return CopySettings(ctx, src, dst, database)
}

// SyncRoles brings roles, settings and CONNECT at dst up to src's once more:
// what was granted, rotated or set since [CreateTarget].
func SyncRoles(ctx context.Context, src, dst *pgx.Conn, database string) error {
	if err := CopyRoles(ctx, src, dst, database); err != nil {
		return err
	}
	if err := grantConnect(ctx, dst, database); err != nil {
		return err
	}
	return CopySettings(ctx, src, dst, database)
}

// CopySettings has dst take over the settings of the database and of its roles
// in the database (ALTER DATABASE … SET, ALTER ROLE … IN DATABASE … SET); what
// src does not have any more goes.
func CopySettings(ctx context.Context, src, dst *pgx.Conn, database string) error {
	prefixes, err := namesOf(ctx, dst, `
		SELECT CASE WHEN s.setrole = 0 THEN 'ALTER DATABASE ' ELSE 'ALTER ROLE ' || pg_catalog.quote_ident(a.rolname) || ' IN DATABASE ' END || pg_catalog.quote_ident(d.datname)
		FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
		LEFT JOIN pg_catalog.pg_authid a ON a.oid = s.setrole
		WHERE d.datname = $1 AND (s.setrole = 0 OR a.rolname IS NOT NULL) ORDER BY 1`, database)
	if err != nil {
		return fmt.Errorf("settings of %s: %w", database, err)
	}
	if len(prefixes) > 0 {
		if err := script(ctx, dst, strings.Join(prefixes, " RESET ALL;\n")+" RESET ALL"); err != nil {
			return fmt.Errorf("settings of %s: %w", database, err)
		}
	}
	same := func(role string, _ bool) (string, bool) { return role, true }
	return copySettings(ctx, src, dst, database, database, same)
}

// copySettings copies them to a database of another name, to the roles that name
// says; roles that it does not have are left out.
func copySettings(ctx context.Context, src, dst *pgx.Conn, from, to string, name func(role string, canLogin bool) (string, bool)) error {
	there, err := existingRoles(ctx, dst, to)
	if err != nil {
		return err
	}
	rows, err := src.Query(ctx, `
		SELECT coalesce(a.rolname::text, ''), coalesce(a.rolcanlogin, false), s.setconfig FROM pg_catalog.pg_db_role_setting s
		JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
		LEFT JOIN pg_catalog.pg_authid a ON a.oid = s.setrole
		WHERE d.datname = $1 AND (s.setrole = 0 OR a.`+roleFilter+`) ORDER BY 1`, from)
	if err != nil {
		return fmt.Errorf("settings of %s: %w", from, err)
	}
	type setting struct {
		Role     string
		CanLogin bool
		Config   []string
	}
	settings, err := pgx.CollectRows(rows, pgx.RowToStructByPos[setting])
	if err != nil {
		return fmt.Errorf("settings of %s: %w", from, err)
	}
	var b strings.Builder
	for _, s := range settings {
		prefix := "ALTER DATABASE " + pg.Ident(to)
		if s.Role != "" {
			role, carried := name(s.Role, s.CanLogin)
			if !carried || !there[role] {
				continue
			}
			prefix = "ALTER ROLE " + pg.Ident(role) + " IN DATABASE " + pg.Ident(to)
		}
		if err := writeSettings(&b, prefix, renamedAll(s.Config, from, to)); err != nil {
			return fmt.Errorf("settings of %s: %w", from, err)
		}
	}
	if err := script(ctx, dst, b.String()); err != nil {
		return fmt.Errorf("settings of %s: %w", from, err)
	}
	return nil
}

// timestamp formats t for VALID UNTIL.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.999999Z07:00") }
