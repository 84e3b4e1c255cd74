package shard

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

// closeFor bounds clean-up that must happen whatever became of the caller's context.
const closeFor = 2 * time.Second

// The roles of a database X, as internal/tenantdb names them.

// AnchorRole can't log in and owns nothing; every login of X is a member, which
// is what pg_hba.conf and PgBouncer's lookup go by.
func AnchorRole(database string) string { return tenantdb.AnchorRole(database) }

// OwnerRole can't log in; it owns the schema and its objects.
func OwnerRole(database string) string { return tenantdb.OwnerRole(database) }

// RWRole can't log in; it is what a writing request becomes.
func RWRole(database string) string { return tenantdb.RWRole(database) }

// RORole can't log in; it is what a reading request becomes.
func RORole(database string) string { return tenantdb.RORole(database) }

// AuthLogin is the data plane's login for REST that a database is made with. By
// itself it may do nothing but become RWRole or RORole.
func AuthLogin(database string) string { return tenantdb.REST.User(database) }

// tempPrefix begins the temporary logins of people.
func tempPrefix(database string) string { return database + "_tmp_" }

// roleFilter selects the roles of one database, given as $1; no other role can have such a name.
const roleFilter = `rolname ~ ('^' || $1 || '` + tenantdb.RolePattern + `$')`

// Limits of each login of a tenant at its shard. Zero leaves a limit out.
type Limits struct {
	Connections      int
	StatementTimeout time.Duration
	IdleInTx         time.Duration
	// TempFilesMB bounds a session's temporary files, in MB: sorts and hashes that don't fit into memory.
	TempFilesMB int
}

// CreateRoles makes the roles of a database, and its logins as they follow from
// its secret. Roles that are there are brought to the same shape and verifiers.
// The timeouts of limits are bound to the database, so they need it there: they
// are set by [SetLimits].
func CreateRoles(ctx context.Context, conn *pgx.Conn, database string, document secret.Login, limits Limits) error {
	if !shardmap.ValidDatabase(database) {
		return fmt.Errorf("%w: database %q", shardmap.ErrInvalidID, database)
	}
	there, err := existingRoles(ctx, conn, database)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, group := range []string{AnchorRole(database), OwnerRole(database), RWRole(database), RORole(database)} {
		define(&b, there, group, "NOLOGIN")
	}
	if err := defineLogins(&b, there, database, document, limits, allLogins[:]); err != nil {
		return err
	}
	if err := script(ctx, conn, b.String()); err != nil {
		return fmt.Errorf("roles of %s: %w", database, err)
	}
	return nil
}

// define makes a role, or brings one that is there to its shape.
func define(b *strings.Builder, there map[string]bool, role, attributes string) {
	verb := "CREATE"
	if there[role] {
		verb = "ALTER"
	}
	fmt.Fprintf(b, "%s ROLE %s WITH NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS %s;\n", verb, pg.Ident(role), attributes)
	enlist(b, role)
}

// SetLimits binds the timeouts and the bound of temporary files of limits to the
// data plane's logins in their database, as it is made: later turns take over what the one before has.
func SetLimits(ctx context.Context, conn *pgx.Conn, database string, limits Limits) error {
	if err := script(ctx, conn, limitsScript(database, tenantdb.FirstTurn, limits, allLogins[:])); err != nil {
		return fmt.Errorf("limits of %s: %w", database, err)
	}
	return nil
}

func limitsScript(database string, turn tenantdb.Turn, limits Limits, logins []tenantdb.Login) string {
	var b strings.Builder
	for _, l := range logins {
		where := fmt.Sprintf("ALTER ROLE %s IN DATABASE %s", pg.Ident(l.UserAt(database, turn)), pg.Ident(database))
		for _, s := range []struct {
			name  string
			value int64
			unit  string
		}{
			{"statement_timeout", limits.StatementTimeout.Milliseconds(), "ms"}, {"idle_in_transaction_session_timeout", limits.IdleInTx.Milliseconds(), "ms"},
			{"temp_file_limit", int64(limits.TempFilesMB), "MB"}, // a superuser's to set: the tenant cannot change it
		} {
			if s.value > 0 {
				fmt.Fprintf(&b, "%s SET %s = '%d%s';\n", where, s.name, s.value, s.unit)
			} else {
				fmt.Fprintf(&b, "%s RESET %s;\n", where, s.name)
			}
		}
	}
	return b.String()
}

func connections(n int) int {
	if n <= 0 {
		return -1
	}
	return n
}

func existingRoles(ctx context.Context, conn *pgx.Conn, database string) (map[string]bool, error) {
	names, err := roleNames(ctx, conn, database)
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool, len(names))
	for _, n := range names {
		there[n] = true
	}
	return there, nil
}

// roleNames lists the roles of a database that are there, logins last.
func roleNames(ctx context.Context, conn *pgx.Conn, database string) ([]string, error) {
	if !shardmap.ValidDatabase(database) {
		return nil, fmt.Errorf("%w: database %q", shardmap.ErrInvalidID, database)
	}
	rows, err := conn.Query(ctx, "SELECT rolname::text FROM pg_catalog.pg_roles WHERE "+roleFilter+" ORDER BY rolcanlogin, rolname", database)
	if err != nil {
		return nil, fmt.Errorf("roles of %s: %w", database, err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("roles of %s: %w", database, err)
	}
	return names, nil
}

// script runs statements without parameters in one round trip: a simple query
// of several statements is one transaction.
func script(ctx context.Context, conn *pgx.Conn, sql string) error {
	_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// DropDatabaseAndRoles removes the database, its sessions and its roles. What
// is not there is no error. Its slots and subscriptions go with it.
func DropDatabaseAndRoles(ctx context.Context, conn *pgx.Conn, database string) error {
	if !shardmap.ValidDatabase(database) {
		return fmt.Errorf("%w: database %q", shardmap.ErrInvalidID, database)
	}
	if err := dropDatabase(ctx, conn, database); err != nil {
		return err
	}
	if err := dropMovers(ctx, conn, database); err != nil {
		return fmt.Errorf("drop roles of %s: %w", database, err)
	}
	names, err := roleNames(ctx, conn, database)
	if err != nil || len(names) == 0 {
		return err
	}
	if err := dropRoles(ctx, conn, names); err != nil {
		return fmt.Errorf("drop roles of %s: %w", database, err)
	}
	return nil
}

// dropRoles drops roles whose database is gone or has nothing of them. Other
// databases may name them: every tenant sees every role, and can grant to it
// and write policies for it. That is taken back there.
func dropRoles(ctx context.Context, conn *pgx.Conn, names []string) error {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = pg.Ident(n)
	}
	list := strings.Join(quoted, ", ")
	const tries = 5 // against one who grants anew as often
	for try := 1; ; try++ {
		_, err := conn.Exec(ctx, "DROP ROLE IF EXISTS "+list)
		if pg.Code(err) != pgerrcode.DependentObjectsStillExist || try == tries {
			return err
		}
		rows, err := conn.Query(ctx, `
			SELECT d.datname::text, array_agg(DISTINCT quote_ident(r.rolname)) FROM pg_catalog.pg_shdepend s
			JOIN pg_catalog.pg_database d ON d.oid = s.dbid JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid
			WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass AND r.rolname = ANY($1::text[]) GROUP BY d.datname`, names)
		if err != nil {
			return err
		}
		type mention struct {
			Database string
			Roles    []string
		}
		mentions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[mention])
		if err != nil {
			return err
		}
		for _, m := range mentions {
			if err := dropOwned(ctx, conn, m.Database, strings.Join(m.Roles, ", ")); err != nil {
				return err
			}
		}
	}
}

// dropOwned takes all rights of roles (quoted) in a database away, and what
// they own there. It runs no code of the tenant's, and waits for no lock for long.
func dropOwned(ctx context.Context, conn *pgx.Conn, database, roles string) error {
	inside, err := sibling(ctx, conn, database)
	if err != nil {
		return err
	}
	defer closeConn(ctx, inside)
	if err := script(ctx, inside, "SET LOCAL lock_timeout = '5s';\nDROP OWNED BY "+roles); err != nil {
		return fmt.Errorf("in database %s: %w", database, err)
	}
	return nil
}

// dropDatabase drops any database of the server, sessions or not.
func dropDatabase(ctx context.Context, conn *pgx.Conn, name string) error {
	if err := dropLinks(ctx, conn, name); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pg.Ident(name)+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}
