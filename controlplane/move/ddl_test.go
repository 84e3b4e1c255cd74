package move

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/move/ddlguard"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

// try runs sql in the tenant's database as its owner role.
func (w *world) try(on shardmap.ShardID, db, sql string) error {
	conn := w.conn(on, db)
	_, err := conn.PgConn().Exec(w.t.Context(), "SET search_path = public; SET ROLE "+shard.OwnerRole(db)+";"+sql).ReadAll()
	return err
}

func requireRefusedFor(t *testing.T, op string, err error) {
	t.Helper()
	var e *pgconn.PgError
	require.True(t, errors.As(err, &e), "%v", err)
	require.Equal(t, ddlguard.Code, e.Code, e.Message)
	require.Contains(t, e.Message, op)
}

// A migration that meets a move is refused, with the move's name; what a move
// carries along is not; and afterwards there is no guard anywhere.
func TestSchemaChangesAreRefusedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("eager", "a")
	w.asOwner("a", db, "CREATE TABLE d (id int PRIMARY KEY); INSERT INTO d SELECT generate_series(1, 10); CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM d")
	met := map[string]error{}
	w.hit = func(name string) error {
		if name == "move/cutover/hold" && len(met) == 0 {
			for _, sql := range []string{"ALTER TABLE d ADD COLUMN more int", "CREATE INDEX CONCURRENTLY ON d (id)", "DROP TABLE d CASCADE",
				"TRUNCATE d; INSERT INTO d VALUES (42)", "CREATE TEMP TABLE t (id serial); DROP TABLE t", "CREATE TABLE IF NOT EXISTS d (id int)"} {
				met[sql] = w.try("a", db, sql)
			}
		}
		return nil
	}
	op := w.move("eager", "b")
	op, rec := w.ended(op)
	require.Equal(t, operation.Done, op.State, op.Error)
	require.Equal(t, 1, rec.Copies, "nothing was changed, and nothing copied again")
	for i, sql := range []string{"ALTER TABLE d ADD COLUMN more int", "CREATE INDEX CONCURRENTLY ON d (id)", "DROP TABLE d CASCADE",
		"TRUNCATE d; INSERT INTO d VALUES (42)", "CREATE TEMP TABLE t (id serial); DROP TABLE t", "CREATE TABLE IF NOT EXISTS d (id int)"} {
		if i < 3 {
			requireRefusedFor(t, op.ID, met[sql])
		} else {
			require.NoError(t, met[sql], sql)
		}
	}
	var ids []int
	require.NoError(t, w.conn("b", db).QueryRow(t.Context(), "SELECT array_agg(id) FROM public.d").Scan(&ids))
	require.Equal(t, []int{42}, ids)
	w.requireServedOnce("eager", "a", "b")
	require.NoError(t, w.try("b", db, "ALTER TABLE d ADD COLUMN more int"))
}

// With --ddl wait it waits: until a cancelled move is gone, or until the cutover is near.
func TestSchemaChangesWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("patient", "a")
	writer, watcher, inside := w.conn("a", db), w.conn("a", "postgres"), w.conn("a", db)
	for _, cancelled := range []bool{true, false} {
		script(t, writer, "BEGIN; INSERT INTO public.customers (name) VALUES ('x')") // the copy waits for it
		op, err := w.Move(t.Context(), Request{Tenant: "patient", To: "b", MaxPause: w.budget, DDL: ddlguard.Wait}, tester, "")
		require.NoError(t, err)
		pgtest.Eventually(t, "the guard is up", func() (up bool) {
			require.NoError(t, inside.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_event_trigger WHERE evtname LIKE 'freehold\\_move%')").Scan(&up))
			return up
		})
		done := make(chan error, 1)
		go func() { done <- w.try("a", db, "CREATE TABLE wanted (id int)") }()
		pgtest.Eventually(t, "the statement waits", func() (waits bool) {
			require.NoError(t, watcher.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1 AND wait_event = 'PgSleep')", db).Scan(&waits))
			return waits
		})
		if cancelled {
			_, err := w.engine.Cancel(t.Context(), op.ID, tester)
			require.NoError(t, err)
			op, _ = w.ended(op)
			require.Equal(t, operation.Canceled, op.State, op.Error)
			require.NoError(t, <-done)
			script(t, writer, "ROLLBACK")
			w.asOwner("a", db, "DROP TABLE wanted")
			w.requireServedOnce("patient", "a", "b")
			continue
		}
		script(t, writer, "COMMIT")
		op, rec := w.ended(op)
		require.Equal(t, operation.Done, op.State, op.Error)
		require.Equal(t, 1, rec.Copies)
		requireRefusedFor(t, op.ID, <-done)
		w.requireServedOnce("patient", "a", "b")
	}
}
