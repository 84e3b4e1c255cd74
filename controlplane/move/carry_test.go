package move

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// What was applied before the barrier is flushed with it, also where there is
// no sequence to be set and the server's sessions don't wait for their log.
func TestBarrierIsFlushed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	db, _ := w.tenant("durable", "a")
	w.asOwner("a", db, "CREATE TABLE applied (v text)")
	conn := w.conn("a", db)
	script(t, conn, "SET synchronous_commit = off; INSERT INTO public.applied VALUES ('x')")
	var applied string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT pg_current_wal_insert_lsn()::text").Scan(&applied))
	require.NoError(t, pgx.BeginFunc(t.Context(), conn, func(pgx.Tx) error { return carry(t.Context(), conn, nil, values{}) }))
	var flushed bool
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT pg_current_wal_flush_lsn() >= $1::text::pg_lsn", applied).Scan(&flushed))
	require.True(t, flushed)
}
