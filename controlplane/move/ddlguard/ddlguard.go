// Package ddlguard keeps a tenant's schema as it is while the tenant moves:
// event triggers in its database refuse statements that change it, or have them
// wait, with a message that names the move. They are the superuser's, so that
// no role of the tenant's can drop, disable or replace them.
//
// What a session keeps to itself (temporary objects), what a move carries along
// (TRUNCATE, REFRESH MATERIALIZED VIEW, setval) and what changes nothing
// (CREATE TABLE IF NOT EXISTS of one that is there) stays allowed. Statements
// are judged when they have ended, when Postgres knows what they did, and fail
// with all they did; see docs/decisions/0013-ddl-guard.md.
//
// Import law: of this module, ddlguard imports internal packages only.
package ddlguard

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/schemachange"
)

// Code is the SQLSTATE of a refusal. Nothing of the statement was done, and it
// may be run again once the move is over.
const Code = "FH002"

// Mode says what becomes of a statement that changes the schema.
type Mode string

const (
	// Refuse fails it.
	Refuse Mode = "refuse"
	// Wait lets it wait at its beginning for the move's end; when the cutover
	// is near, or the session's own statement_timeout or lock_timeout, it is
	// refused. Transactions that wrote already, or that see one moment of the
	// database only, are refused at once.
	Wait Mode = "wait"
)

// platform is what sessions of the control plane call themselves that are no move's.
const platform = "freehold-admin"

//go:embed ddlguard.sql
var functionSQL string

// events are the moments at which the function is called, by the event trigger's name.
var events = [][2]string{
	{"freehold_move_start", "ddl_command_start"}, {"freehold_move_end", "ddl_command_end"},
	{"freehold_move_drop", "sql_drop"}, {"freehold_move_rewrite", "table_rewrite"},
}

const (
	mark  = "COMMENT ON EVENT TRIGGER freehold_move_start IS "
	lower = "DROP EVENT TRIGGER IF EXISTS freehold_move_start, freehold_move_end, freehold_move_drop, freehold_move_rewrite"
)

// Raise sets the guard in the database of conn, for the operation with that
// ID; one that is set already is replaced. Sessions of superusers whose
// application_name is application pass, and the platform's own when they take
// away what a role had. conn may be in a transaction.
func Raise(ctx context.Context, conn *pgx.Conn, operation, application string, mode Mode) error {
	literals := map[string]string{"{operation}": operation, "{application}": application, "{platform}": platform, "{code}": Code, "{mode}": string(mode)}
	for name, value := range literals {
		lit, err := pg.Literal(value)
		if err != nil {
			return fmt.Errorf("guard the schema: %w", err)
		}
		literals[name] = lit
	}
	var sql strings.Builder
	// What is granted names no schema, and would count as a change of the tenant's.
	sql.WriteString(schemachange.Unnoted + ";\n" + lower + ";\n" + strings.NewReplacer("{operation}", literals["{operation}"], "{application}", literals["{application}"], "{platform}", literals["{platform}"], "{code}", literals["{code}"]).Replace(functionSQL))
	for _, e := range events {
		fmt.Fprintf(&sql, "CREATE EVENT TRIGGER %s ON %s EXECUTE FUNCTION freehold.guard_ddl();\n", e[0], e[1])
		fmt.Fprintf(&sql, "ALTER EVENT TRIGGER %s ENABLE ALWAYS;\n", e[0]) // whatever session_replication_role says
	}
	sql.WriteString(mark + literals["{mode}"])
	if _, err := conn.PgConn().Exec(ctx, sql.String()).ReadAll(); err != nil {
		return fmt.Errorf("guard the schema: %w", err)
	}
	return nil
}

// Hurry has statements that wait refused within moments, and later ones at
// once. Without a guard it does nothing.
func Hurry(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, mark+"'"+string(Refuse)+"'", pgx.QueryExecModeSimpleProtocol)
	if err != nil && pg.Code(err) != pgerrcode.UndefinedObject {
		return fmt.Errorf("end waits for the guard: %w", err)
	}
	return nil
}

// Lower takes the guard away; none is no error. Statements that wait go on.
func Lower(ctx context.Context, conn *pgx.Conn) error {
	// One after the other: a statement that has just seen the triggers still finds the function.
	for _, sql := range []string{lower, "DROP FUNCTION IF EXISTS freehold.guard_ddl()"} {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("take the guard of the schema away: %w", err)
		}
	}
	return nil
}
