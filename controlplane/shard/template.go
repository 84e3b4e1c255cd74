package shard

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/schemachange"
	"github.com/freehold-db/freehold/shardmap"
)

// The templates that every shard keeps. Nobody but superusers connects to them.
const (
	TemplateBase = "freehold_base" // hardened, empty: what a move fills
	TemplateApp  = "freehold_app"  // TemplateBase and the application's schema at its newest version

	building = "freehold_building" // a template under work
	old      = "freehold_old"      // one just replaced
)

const (
	templateOwner    = "freehold_app_owner" // owns the application's objects in TemplateApp; NOLOGIN
	platformSchema   = "freehold"           // in every database: PgBouncer's lookup, the mover's barrier, notes of schema changes
	migrationsSchema = "migrations"         // in every database: goose's table; not granted to rw and ro
	migrationsTable  = migrationsSchema + ".goose_db_version"
	baseVersion      = "4" // of baseScript and schemachange.SQL; a change makes all templates anew
)

// Schema is the application schema that tenants get.
type Schema struct {
	Version     int64  // goose version of the newest migration; 0: there are none
	Fingerprint string // of all migrations' names and contents
}

// ReadSchema looks at the goose SQL files in dir. An empty dir name means that there are none.
func ReadSchema(dir string) (Schema, error) {
	hash := sha256.New()
	var s Schema
	if dir != "" {
		files, err := fs.Glob(os.DirFS(dir), "*.sql")
		if err != nil {
			return s, err
		}
		if len(files) == 0 {
			return s, fmt.Errorf("migrations: no *.sql files in %s", dir)
		}
		for _, name := range files { // Glob sorts
			version, err := goose.NumericComponent(name)
			if err != nil {
				return s, fmt.Errorf("migrations: %s: %w", name, err)
			}
			s.Version = max(s.Version, version)
			text, err := fs.ReadFile(os.DirFS(dir), name)
			if err != nil {
				return s, fmt.Errorf("migrations: %w", err)
			}
			fmt.Fprintf(hash, "%s %d\n", name, len(text))
			_, _ = hash.Write(text) // never fails
		}
	}
	s.Fingerprint = hex.EncodeToString(hash.Sum(nil))[:16]
	return s, nil
}

// ErrSchemaChanged: the migrations differ from those that the shard's template
// was made of, but the version is the same. Tenants have that version already,
// in the shape of before, so that the same number would mean two schemas.
var ErrSchemaChanged = errors.New("migrations were changed after tenants had them")

// EnsureTemplates has both templates made anew if they are missing or not at
// the newest schema in migrationsDir, and returns that schema. Creations may
// run meanwhile, and so may other replicas. An error in a migration leaves the
// templates as they were. Errors: [ErrSchemaChanged].
func (f *Fleet) EnsureTemplates(ctx context.Context, id shardmap.ShardID, migrationsDir string) (Schema, error) {
	conn, err := f.Admin(ctx, id, maintenance)
	if err != nil {
		return Schema{}, err
	}
	defer closeConn(ctx, conn)
	schema, err := EnsureTemplatesOn(ctx, conn, migrationsDir)
	if err != nil {
		return schema, fmt.Errorf("shard %s: %w", id, err)
	}
	return schema, nil
}

// EnsureTemplatesOn is EnsureTemplates over an admin connection to the
// maintenance database. When nothing is to be done it costs one round trip.
func EnsureTemplatesOn(ctx context.Context, conn *pgx.Conn, migrationsDir string) (Schema, error) {
	schema, err := ReadSchema(migrationsDir)
	if err != nil {
		return schema, err
	}
	wantBase := "base " + baseVersion
	wantApp := wantBase + schema.mark()
	if ok, err := templatesAre(ctx, conn, wantBase, wantApp); ok || err != nil {
		return schema, err
	}
	if err := lockSession(ctx, conn, lockTemplates); err != nil {
		return schema, fmt.Errorf("templates: %w", err)
	}
	defer unlockSession(ctx, conn, lockTemplates)
	if err := sameSchema(ctx, conn, schema); err != nil {
		return schema, err
	}
	err = ensureTemplate(ctx, conn, TemplateBase, wantBase, "template0", func(ctx context.Context, inside *pgx.Conn) error {
		return script(ctx, inside, baseScript+schemachange.SQL)
	})
	if err != nil {
		return schema, fmt.Errorf("template %s: %w", TemplateBase, err)
	}
	err = ensureTemplate(ctx, conn, TemplateApp, wantApp, TemplateBase, func(ctx context.Context, inside *pgx.Conn) error {
		return migrate(ctx, inside.Config(), migrationsDir)
	})
	if err != nil {
		return schema, fmt.Errorf("template %s: %w", TemplateApp, err)
	}
	return schema, nil
}

// mark is what the comment of TemplateApp says of the schema in it.
func (s Schema) mark() string { return fmt.Sprintf(" schema %d %s", s.Version, s.Fingerprint) }

// sameSchema refuses another schema under the version that TemplateApp has.
func sameSchema(ctx context.Context, conn *pgx.Conn, schema Schema) error {
	var has string
	err := conn.QueryRow(ctx, `
		SELECT coalesce((SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = $1), '')`, TemplateApp).Scan(&has)
	if err != nil {
		return fmt.Errorf("templates: %w", err)
	}
	_, mark, found := strings.Cut(has, " schema ")
	version, _, _ := strings.Cut(mark, " ")
	if found && version == fmt.Sprint(schema.Version) && " schema "+mark != schema.mark() {
		return fmt.Errorf("%w: put the files of version %d back as they were, and write the change as a new migration", ErrSchemaChanged, schema.Version)
	}
	return nil
}

func templatesAre(ctx context.Context, conn *pgx.Conn, base, app string) (bool, error) {
	var n int
	err := conn.QueryRow(ctx, `
		SELECT count(*) FROM pg_catalog.pg_database
		WHERE datistemplate AND pg_catalog.shobj_description(oid, 'pg_database') = CASE datname WHEN $1 THEN $2 WHEN $3 THEN $4 END`,
		TemplateBase, base, TemplateApp, app).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("templates: %w", err)
	}
	return n == 2, nil
}

// ensureTemplate makes the template anew under another name and swaps it in,
// unless its comment says already what is wanted. Called under the lock.
func ensureTemplate(ctx context.Context, conn *pgx.Conn, name, want, from string, fill func(context.Context, *pgx.Conn) error) error {
	var have bool
	err := conn.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM pg_catalog.pg_database
		WHERE datname = $1 AND datistemplate AND pg_catalog.shobj_description(oid, 'pg_database') = $2)`, name, want).Scan(&have)
	if err != nil || have {
		return err
	}
	for _, leftover := range []string{building, old} {
		if err := dropTemplate(ctx, conn, leftover); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s STRATEGY WAL_LOG CONNECTION LIMIT 0", building, pg.Ident(from))); err != nil {
		return err
	}
	// A database's own privileges are never copied from its template.
	if _, err := conn.Exec(ctx, fmt.Sprintf("REVOKE ALL ON DATABASE %s FROM PUBLIC", building)); err != nil {
		return err
	}
	inside, err := sibling(ctx, conn, building)
	if err != nil {
		return err
	}
	err = fill(ctx, inside)
	closeConn(ctx, inside)
	if err != nil {
		return err
	}
	return swapTemplate(ctx, conn, name, want)
}

// swapTemplate puts the built one in the place of the old one in one
// transaction, so that a creation finds one or the other. The renames wait for
// creations that are copying.
func swapTemplate(ctx context.Context, conn *pgx.Conn, name, want string) error {
	comment, err := pg.Literal(want)
	if err != nil {
		return err
	}
	replaced := true
	if _, err := connectionLimit(ctx, conn, name); pg.Code(err) == pgerrcode.InvalidCatalogName {
		replaced = false
	} else if err != nil {
		return err
	}
	var b strings.Builder
	if replaced {
		fmt.Fprintf(&b, "ALTER DATABASE %s IS_TEMPLATE false;\nALTER DATABASE %s RENAME TO %s;\n", name, name, old)
	}
	fmt.Fprintf(&b, "ALTER DATABASE %s RENAME TO %s;\nALTER DATABASE %s IS_TEMPLATE true;\nCOMMENT ON DATABASE %s IS %s;\n", building, name, name, name, comment)
	// 55006: our own session in it, just closed, may take a moment to be gone.
	err = poll(ctx, func() (bool, error) {
		err := script(ctx, conn, b.String())
		if pg.Code(err) == pgerrcode.ObjectInUse {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil || !replaced {
		return err
	}
	return dropTemplate(ctx, conn, old)
}

// dropTemplate drops a database that may be marked as a template; one that is not there is no error.
func dropTemplate(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, "ALTER DATABASE "+pg.Ident(name)+" IS_TEMPLATE false")
	if pg.Code(err) == pgerrcode.InvalidCatalogName {
		return nil
	}
	if err != nil {
		return err
	}
	return dropDatabase(ctx, conn, name)
}

// migrate runs the application's migrations as the template's owner: a
// migration has no superuser's rights.
func migrate(ctx context.Context, cfg *pgx.ConnConfig, dir string) error {
	if dir == "" {
		return nil
	}
	admin, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer closeConn(ctx, admin)
	// CREATE on the database makes schemas and trusted extensions possible. It
	// is not copied with the template.
	if _, err := admin.Exec(ctx, fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s", pg.Ident(cfg.Database), templateOwner)); err != nil {
		return err
	}
	cfg = cfg.Copy()
	cfg.RuntimeParams["role"] = templateOwner
	cfg.RuntimeParams["search_path"] = "public"
	db := stdlib.OpenDB(*cfg)
	defer db.Close() //nolint:errcheck // the database is closed to all others
	db.SetMaxOpenConns(2)
	provider, err := newProvider(db, dir)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrations: %w", plainGoose(err))
	}
	return nil
}

func newProvider(db *sql.DB, dir string) (*goose.Provider, error) {
	store, err := database.NewStore(database.DialectPostgres, migrationsTable)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider("", db, os.DirFS(dir), goose.WithStore(store), goose.WithDisableGlobalRegistry(true))
}

// plainGoose names the file that failed instead of goose's list of those that did not.
func plainGoose(err error) error {
	var partial *goose.PartialError
	if errors.As(err, &partial) && partial.Failed != nil && partial.Failed.Source != nil {
		return fmt.Errorf("%s: %w", partial.Failed.Source.Path, partial.Err)
	}
	return err
}

// noDatabase is what Postgres says of a database that is not there.
func noDatabase(name string) error {
	return &pgconn.PgError{Severity: "ERROR", Code: pgerrcode.InvalidCatalogName, Message: fmt.Sprintf("database %q does not exist", name)}
}
