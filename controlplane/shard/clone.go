package shard

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// CloneTarget makes at dst what a clone of database from fills: a fenced, empty
// database named to, with roles and logins of its own as they follow from its
// secret, the source's custom roles, and the settings of the database and of
// both in it. Every mention of from in a setting becomes to; names are opaque, so
// that nothing else is meant by it. Temporary logins are not carried. src and
// dst are admin connections to any database of their servers. A fenced database
// of that name at dst is a leftover of a try before and is replaced. It returns
// the names of the custom roles, without their prefix. Errors: [ErrInUse].
func CloneTarget(ctx context.Context, src, dst *pgx.Conn, from, to string, document secret.Login, limits Limits) ([]string, error) {
	roles, err := readRoles(ctx, src, from)
	if err != nil {
		return nil, err
	}
	if err := CreateRoles(ctx, dst, to, document, limits); err != nil {
		return nil, err
	}
	there, err := existingRoles(ctx, dst, to)
	if err != nil {
		return nil, err
	}
	var custom []string
	var b strings.Builder
	for _, r := range roles {
		name, carried := cloned(r.Name, r.CanLogin, from, to)
		if !carried {
			// Rights that somebody gave to the login itself name it in the dump.
			if login := renamed(r.Name, from, to); !there[login] {
				define(&b, there, login, "NOLOGIN NOINHERIT")
			}
			continue
		}
		if short, ok := strings.CutPrefix(r.Name, CustomRole(from, "")); ok {
			custom = append(custom, short)
			define(&b, there, name, "NOLOGIN INHERIT")
			fmt.Fprintf(&b, "GRANT %s TO %s;\n", pg.Ident(name), pg.Ident(AuthLogin(to)))
		} else if !there[name] {
			continue
		}
		fmt.Fprintf(&b, "ALTER ROLE %s RESET ALL;\n", pg.Ident(name))
		if err := writeSettings(&b, "ALTER ROLE "+pg.Ident(name), renamedAll(r.Settings, from, to)); err != nil {
			return nil, fmt.Errorf("settings of %s: %w", name, err)
		}
	}
	if err := script(ctx, dst, b.String()); err != nil {
		return nil, fmt.Errorf("roles of %s: %w", to, err)
	}
	if err := createDatabase(ctx, dst, to, TemplateBase); err != nil {
		return nil, err
	}
	if err := SetLimits(ctx, dst, to, limits); err != nil {
		return nil, err
	}
	return custom, copySettings(ctx, src, dst, from, to, func(role string, canLogin bool) (string, bool) { return cloned(role, canLogin, from, to) })
}

// cloned is the role of a clone's that takes over what a role has: by its new
// name, but the logins that are in use are those of the first turn there. Logins
// that are not in use carry nothing.
func cloned(role string, canLogin bool, from, to string) (string, bool) {
	for _, l := range allLogins {
		for _, turn := range turns {
			if role == l.UserAt(from, turn) {
				return l.User(to), canLogin
			}
		}
	}
	return renamed(role, from, to), true
}

func renamed(s, from, to string) string { return strings.ReplaceAll(s, from, to) }

func renamedAll(list []string, from, to string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = renamed(s, from, to)
	}
	return out
}

// Blank takes away what the template brought for the roles of database to, so
// that a dump of database from finds one as initdb would have made it, but for
// the platform's own schema and what was revoked in pg_catalog; the comment on
// the database it carries itself. first runs before all that, in the same
// transaction. src and dst are admin connections inside the databases.
func Blank(ctx context.Context, src, dst *pgx.Conn, from, to, first string) error {
	if !shardmap.ValidDatabase(to) {
		return fmt.Errorf("%w: database %q", shardmap.ErrInvalidID, to)
	}
	var public bool
	var comment *string
	err := src.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'public'),
		(SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())`).Scan(&public, &comment)
	if err != nil {
		return fmt.Errorf("blank %s: %w", to, err)
	}
	return blank(ctx, dst, from, to, first, public, comment)
}

func blank(ctx context.Context, dst *pgx.Conn, from, to, first string, public bool, comment *string) error {
	owner, rw, ro := pg.Ident(OwnerRole(to)), pg.Ident(RWRole(to)), pg.Ident(RORole(to))
	sql := first + "ALTER SCHEMA public OWNER TO pg_database_owner;\n" +
		fmt.Sprintf("DROP OWNED BY %s CASCADE; DROP OWNED BY %s CASCADE; DROP OWNED BY %s CASCADE;\n", rw, ro, owner) + // one by one: they share default privileges
		fmt.Sprintf("REVOKE ALL ON SCHEMA public FROM PUBLIC, %s, %s, %s;\n", owner, rw, ro) +
		"GRANT ALL ON SCHEMA public TO pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC;\n" +
		fmt.Sprintf("GRANT CREATE, TEMPORARY ON DATABASE %s TO %s;\n", pg.Ident(to), owner)
	if !public {
		sql += "DROP SCHEMA public;\n"
	}
	if comment != nil {
		lit, err := pg.Literal(renamed(*comment, from, to))
		if err != nil {
			return fmt.Errorf("comment of %s: %w", from, err)
		}
		sql += "COMMENT ON DATABASE " + pg.Ident(to) + " IS " + lit
	}
	if err := script(ctx, dst, sql); err != nil {
		return fmt.Errorf("blank %s: %w", to, err)
	}
	return nil
}
