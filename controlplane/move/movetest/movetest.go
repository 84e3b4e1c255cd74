// Package movetest holds what tests of the move share: a database with a
// little of everything, and what can be said of one on every version.
package movetest

import (
	_ "embed"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

var (
	//go:embed everything.sql
	common string
	//go:embed rarer.sql
	rarer string
)

// Everything makes, as the owner role of a tenant's database, a little of
// everything that a move must carry.
var Everything = common + rarer

// Changes are what an application does to all of that while it moves. They are
// made by an admin connection.
//
//go:embed changes.sql
var Changes string

//go:embed describe.sql
var describeSQL string

// Describe says in lines what the schema of a database holds, in the same words
// on every version of Postgres. conn is an admin connection with an empty search_path.
func Describe(t testing.TB, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), describeSQL, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return lines
}
