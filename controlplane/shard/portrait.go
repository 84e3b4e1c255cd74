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

// Portrait is what a database is set to, but for what is in it: enough to make
// another like it where the first can't be asked. There is no secret in it.
type Portrait struct {
	Database string            `json:"database"`
	Public   bool              `json:"public"`            // it has a schema public
	Comment  *string           `json:"comment,omitempty"` // on the database
	Roles    []PortraitRole    `json:"roles"`
	Settings []PortraitSetting `json:"settings,omitempty"`
}

// PortraitRole is one of its roles.
type PortraitRole struct {
	Name     string   `json:"name"`
	CanLogin bool     `json:"can_login,omitempty"`
	Settings []string `json:"settings,omitempty"` // in all databases: "name=value"
}

// PortraitSetting is what holds in this database: for a role, or for all.
type PortraitSetting struct {
	Role     string   `json:"role,omitempty"`
	CanLogin bool     `json:"can_login,omitempty"`
	Config   []string `json:"config"`
}

// ReadPortrait reads it. conn is an admin connection inside the database.
// Temporary logins are left out.
func ReadPortrait(ctx context.Context, conn *pgx.Conn, database string) (Portrait, error) {
	p := Portrait{Database: database}
	roles, err := readRoles(ctx, conn, database)
	if err != nil {
		return p, err
	}
	for _, r := range roles {
		p.Roles = append(p.Roles, PortraitRole{Name: r.Name, CanLogin: r.CanLogin, Settings: r.Settings})
	}
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'public'),
		(SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())`).Scan(&p.Public, &p.Comment)
	if err != nil {
		return p, fmt.Errorf("portrait of %s: %w", database, err)
	}
	rows, err := conn.Query(ctx, `
		SELECT coalesce(a.rolname::text, ''), coalesce(a.rolcanlogin, false), s.setconfig FROM pg_catalog.pg_db_role_setting s
		JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
		LEFT JOIN pg_catalog.pg_authid a ON a.oid = s.setrole
		WHERE d.datname = $1 AND (s.setrole = 0 OR a.`+roleFilter+`) ORDER BY 1`, database)
	if err != nil {
		return p, fmt.Errorf("portrait of %s: %w", database, err)
	}
	if p.Settings, err = pgx.CollectRows(rows, pgx.RowToStructByPos[PortraitSetting]); err != nil {
		return p, fmt.Errorf("portrait of %s: %w", database, err)
	}
	return p, nil
}

// After is [CloneTarget] for a source that is a portrait.
func (p Portrait) After(ctx context.Context, dst *pgx.Conn, to string, document secret.Login, limits Limits) ([]string, error) {
	if !shardmap.ValidDatabase(p.Database) {
		return nil, fmt.Errorf("%w: database %q", shardmap.ErrInvalidID, p.Database)
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
	for _, r := range p.Roles {
		if !strings.HasPrefix(r.Name, p.Database) {
			return nil, fmt.Errorf("%w: role %q of database %s", shardmap.ErrInvalidID, r.Name, p.Database)
		}
		name, carried := cloned(r.Name, r.CanLogin, p.Database, to)
		if !carried {
			// Rights that somebody gave to the login itself name it in the dump.
			if login := renamed(r.Name, p.Database, to); !there[login] {
				define(&b, there, login, "NOLOGIN NOINHERIT")
			}
			continue
		}
		if short, ok := strings.CutPrefix(r.Name, CustomRole(p.Database, "")); ok {
			custom = append(custom, short)
			define(&b, there, name, "NOLOGIN INHERIT")
			fmt.Fprintf(&b, "GRANT %s TO %s;\n", pg.Ident(name), pg.Ident(AuthLogin(to)))
		} else if !there[name] {
			continue
		}
		fmt.Fprintf(&b, "ALTER ROLE %s RESET ALL;\n", pg.Ident(name))
		if err := writeSettings(&b, "ALTER ROLE "+pg.Ident(name), renamedAll(r.Settings, p.Database, to)); err != nil {
			return nil, fmt.Errorf("settings of %s: %w", name, err)
		}
		there[name] = true
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
	return custom, p.set(ctx, dst, to, there)
}

func (p Portrait) set(ctx context.Context, dst *pgx.Conn, to string, there map[string]bool) error {
	var b strings.Builder
	for _, s := range p.Settings {
		prefix := "ALTER DATABASE " + pg.Ident(to)
		if s.Role != "" {
			role, carried := cloned(s.Role, s.CanLogin, p.Database, to)
			if !carried || !there[role] {
				continue
			}
			prefix = "ALTER ROLE " + pg.Ident(role) + " IN DATABASE " + pg.Ident(to)
		}
		if err := writeSettings(&b, prefix, renamedAll(s.Config, p.Database, to)); err != nil {
			return fmt.Errorf("settings of %s: %w", to, err)
		}
	}
	if err := script(ctx, dst, b.String()); err != nil {
		return fmt.Errorf("settings of %s: %w", to, err)
	}
	return nil
}

// Blank is the function of that name for a source that is a portrait.
func (p Portrait) Blank(ctx context.Context, dst *pgx.Conn, to string) error {
	return blank(ctx, dst, p.Database, to, "", p.Public, p.Comment)
}
