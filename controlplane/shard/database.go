package shard

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/schemachange"
	"github.com/freehold-db/freehold/shardmap"
)

// CreateDatabase makes the tenant database from a template, fenced: the caller
// opens it with [Unfence]. Its roles must be there. A fenced database of that
// name is a leftover of a try before and is replaced. Errors: [ErrInUse].
//
// The database belongs to the platform, so that the tenant's owner role can't
// drop, rename or re-grant it; what is in it belongs to [OwnerRole]. Its rw and
// ro roles get their rights on all that is there and all that the owner makes later.
func (f *Fleet) CreateDatabase(ctx context.Context, id shardmap.ShardID, database, template string, limits Limits) error {
	conn, err := f.Admin(ctx, id, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	if err := createDatabase(ctx, conn, database, template); err != nil {
		return fmt.Errorf("shard %s: %w", id, err)
	}
	return SetLimits(ctx, conn, database, limits)
}

func createDatabase(ctx context.Context, conn *pgx.Conn, database, template string) error {
	if !shardmap.ValidDatabase(database) {
		return fmt.Errorf("%w: database %q", shardmap.ErrInvalidID, database)
	}
	if err := dropLeftover(ctx, conn, database); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s STRATEGY WAL_LOG CONNECTION LIMIT 0", pg.Ident(database), pg.Ident(template)))
	if err != nil {
		return fmt.Errorf("create database %s from %s: %w", database, template, err)
	}
	inside, err := sibling(ctx, conn, database)
	if err != nil {
		return fmt.Errorf("create database %s: %w", database, err)
	}
	defer closeConn(ctx, inside)
	sql, err := ownershipScript(ctx, inside, database)
	if err != nil {
		return fmt.Errorf("create database %s: %w", database, err)
	}
	if err := script(ctx, inside, sql); err != nil {
		return fmt.Errorf("create database %s: ownership and grants: %w", database, err)
	}
	return nil
}

// dropLeftover removes what a crashed try left. Only what is fenced can be that.
func dropLeftover(ctx context.Context, conn *pgx.Conn, database string) error {
	limit, err := connectionLimit(ctx, conn, database)
	switch {
	case pg.Code(err) == pgerrcode.InvalidCatalogName:
		return nil
	case err != nil:
		return err
	case limit != 0 && limit != ajar && limit != dropping:
		return fmt.Errorf("database %s: %w", database, ErrInUse)
	}
	return dropDatabase(ctx, conn, database)
}

// sibling opens the same connection to another database of the server.
func sibling(ctx context.Context, conn *pgx.Conn, database string) (*pgx.Conn, error) {
	cfg := conn.Config().Copy()
	cfg.Database = database
	return pgx.ConnectConfig(ctx, cfg)
}

// ownershipScript hands what the template brought to the database's owner role and says who may what.
func ownershipScript(ctx context.Context, inside *pgx.Conn, database string) (string, error) {
	// Objects of the template's owner, schema public among them, become the
	// tenant owner's. REASSIGN also reaches what the server shares, but the
	// template's owner has nothing there.
	owner, rw, ro := pg.Ident(OwnerRole(database)), pg.Ident(RWRole(database)), pg.Ident(RORole(database))
	var b strings.Builder
	// Whose it is and who may what is no part of the schema: a node that knows the
	// template's need not read that of each database made from it.
	b.WriteString(schemachange.Unnoted + ";\n")
	fmt.Fprintf(&b, "REASSIGN OWNED BY %s TO %s;\n", pg.Ident(templateOwner), owner)
	fmt.Fprintf(&b, "REVOKE ALL ON DATABASE %s FROM PUBLIC;\n", pg.Ident(database))
	fmt.Fprintf(&b, "COMMENT ON ROLE %s IS '%s';\n", pg.Ident(AnchorRole(database)), BaseMark) // see [Harden]
	fmt.Fprintf(&b, "GRANT CREATE, TEMPORARY ON DATABASE %s TO %s;\n", pg.Ident(database), owner)
	// Only without IN SCHEMA does this take away what PUBLIC gets by default.
	def := fmt.Sprintf("ALTER DEFAULT PRIVILEGES FOR ROLE %s ", owner)
	b.WriteString(def + "REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;\n")
	b.WriteString(def + "REVOKE USAGE ON TYPES FROM PUBLIC;\n")
	fmt.Fprintf(&b, "%sGRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %s;\n%sGRANT SELECT ON TABLES TO %s;\n", def, rw, def, ro)
	fmt.Fprintf(&b, "%sGRANT USAGE, SELECT ON SEQUENCES TO %s;\n", def, rw)
	fmt.Fprintf(&b, "%sGRANT EXECUTE ON FUNCTIONS TO %s;\n", def, rw)
	fmt.Fprintf(&b, "%sGRANT USAGE ON TYPES TO %s, %s;\n", def, rw, ro)

	schemas, err := applicationSchemas(ctx, inside)
	if err != nil {
		return "", err
	}
	for _, schema := range schemas {
		in := pg.Ident(schema)
		fmt.Fprintf(&b, "GRANT USAGE ON SCHEMA %s TO %s, %s;\n", in, rw, ro)
		fmt.Fprintf(&b, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %s TO %s;\n", in, rw)
		fmt.Fprintf(&b, "GRANT SELECT ON ALL TABLES IN SCHEMA %s TO %s;\n", in, ro)
		fmt.Fprintf(&b, "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %s TO %s;\n", in, rw)
	}
	routines, err := applicationRoutines(ctx, inside, schemas)
	if err != nil {
		return "", err
	}
	for _, r := range routines {
		fmt.Fprintf(&b, "REVOKE ALL ON ROUTINE %s FROM PUBLIC;\nGRANT EXECUTE ON ROUTINE %s TO %s;\n", r.Signature, r.Signature, rw)
		if r.Reads {
			fmt.Fprintf(&b, "GRANT EXECUTE ON ROUTINE %s TO %s;\n", r.Signature, ro)
		}
	}
	fmt.Fprintf(&b, "GRANT USAGE ON SCHEMA %s TO %s;\nGRANT EXECUTE ON FUNCTION %s.lookup(text) TO %s;\n",
		platformSchema, BouncerRole, platformSchema, BouncerRole)
	logins, err := loginNames(ctx, inside, database)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "GRANT CONNECT ON DATABASE %s TO %s;\n", pg.Ident(database), strings.Join(append(logins, pg.Ident(BouncerRole)), ", "))
	return b.String(), nil
}

// grantConnect lets the database's logins and PgBouncer's lookups in, and nobody else.
func grantConnect(ctx context.Context, conn *pgx.Conn, database string) error {
	logins, err := loginNames(ctx, conn, database)
	if err != nil {
		return err
	}
	err = script(ctx, conn, connectSQL(database, strings.Join(append(logins, pg.Ident(BouncerRole)), ", ")))
	if err != nil {
		return fmt.Errorf("connect privilege of %s: %w", database, err)
	}
	return nil
}

// loginNames lists the database's logins that are there, quoted.
func loginNames(ctx context.Context, conn *pgx.Conn, database string) ([]string, error) {
	rows, err := conn.Query(ctx, "SELECT quote_ident(rolname) FROM pg_catalog.pg_roles WHERE rolcanlogin AND "+roleFilter+" ORDER BY rolname", database)
	if err != nil {
		return nil, fmt.Errorf("logins of %s: %w", database, err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// applicationSchemas are public and those that the application's migrations
// made, but not where goose keeps its own books.
func applicationSchemas(ctx context.Context, inside *pgx.Conn) ([]string, error) {
	rows, err := inside.Query(ctx, `
		SELECT nspname::text FROM pg_catalog.pg_namespace
		WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', $1, $2) ORDER BY nspname`, platformSchema, migrationsSchema)
	if err != nil {
		return nil, fmt.Errorf("schemas: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// routine is a function or procedure of the application. Reads says that it
// changes nothing and runs with its caller's rights, so that the ro role may
// call it (views need that).
type routine struct {
	Signature string
	Reads     bool
}

// applicationRoutines leaves out what belongs to an extension: that keeps its own rights.
func applicationRoutines(ctx context.Context, inside *pgx.Conn, schemas []string) ([]routine, error) {
	rows, err := inside.Query(ctx, `
		SELECT format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)),
		  p.provolatile IN ('i', 's') AND NOT p.prosecdef
		FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
		WHERE n.nspname = ANY($1::text[]) AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
		  WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
		ORDER BY 1`, schemas)
	if err != nil {
		return nil, fmt.Errorf("functions: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[routine])
}

// connectionLimit reads the database's limit; a database that is not there is an error (3D000).
func connectionLimit(ctx context.Context, conn *pgx.Conn, database string) (int, error) {
	rows, err := conn.Query(ctx, "SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = $1", database)
	if err != nil {
		return 0, fmt.Errorf("connection limit of %s: %w", database, err)
	}
	limits, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return 0, fmt.Errorf("connection limit of %s: %w", database, err)
	}
	if len(limits) == 0 {
		return 0, fmt.Errorf("connection limit: %w", noDatabase(database))
	}
	return limits[0], nil
}
