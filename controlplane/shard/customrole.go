package shard

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

// CustomRole can't log in; it is what a request becomes that comes with a role
// of the tenant's own. Its rights are what the tenant's owner grants to it.
func CustomRole(database, name string) string { return database + "_r_" + name }

// CreateCustomRole makes a tenant's own role at its shard: it may use the
// application's schemas and nothing in them, and the data plane's login may
// become it. One that is there is brought to the same shape, and keeps what it was granted.
func (f *Fleet) CreateCustomRole(ctx context.Context, on shardmap.ShardID, database, name string) error {
	inside, err := f.customRole(ctx, on, database, name)
	if err != nil {
		return err
	}
	defer closeConn(ctx, inside)
	there, err := existingRoles(ctx, inside, database)
	if err != nil {
		return err
	}
	schemas, err := applicationSchemas(ctx, inside)
	if err != nil {
		return err
	}
	var b strings.Builder
	role, verb := pg.Ident(CustomRole(database, name)), "CREATE"
	if there[CustomRole(database, name)] {
		verb = "ALTER"
	}
	fmt.Fprintf(&b, "%s ROLE %s WITH NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOLOGIN INHERIT;\n", verb, role)
	for _, turn := range turns {
		if login := tenantdb.REST.UserAt(database, turn); there[login] {
			fmt.Fprintf(&b, "GRANT %s TO %s;\n", role, pg.Ident(login))
		}
	}
	for _, schema := range schemas {
		fmt.Fprintf(&b, "GRANT USAGE ON SCHEMA %s TO %s;\n", pg.Ident(schema), role)
	}
	if err := script(ctx, inside, b.String()); err != nil {
		return fmt.Errorf("shard %s: role %s of %s: %w", on, name, database, err)
	}
	return nil
}

// DropCustomRole drops a tenant's own role. What it owns goes to the tenant's
// owner, its rights are gone. A role that is not there is no error.
func (f *Fleet) DropCustomRole(ctx context.Context, on shardmap.ShardID, database, name string) error {
	inside, err := f.customRole(ctx, on, database, name)
	if err != nil {
		return err
	}
	defer closeConn(ctx, inside)
	there, err := existingRoles(ctx, inside, database)
	role := CustomRole(database, name)
	if err != nil || !there[role] {
		return err
	}
	if err = disown(ctx, inside, role, database); err == nil {
		err = dropRoles(ctx, inside, []string{role})
	}
	if err != nil {
		return fmt.Errorf("shard %s: role %s of %s: %w", on, name, database, err)
	}
	return nil
}

// customRole connects to the database whose role is to be changed.
func (f *Fleet) customRole(ctx context.Context, on shardmap.ShardID, database, name string) (*pgx.Conn, error) {
	if !shardmap.ValidDatabase(database) {
		return nil, fmt.Errorf("%w: database %q", shardmap.ErrInvalidID, database)
	}
	if err := access.CheckCustomRole(name); err != nil {
		return nil, err
	}
	return f.Admin(ctx, on, database)
}
