package move

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/move/protocol"
	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/pg"
)

// halfDrop has Postgres begin to drop a database on b, and be broken off.
const halfDrop = "UPDATE pg_database SET datconnlimit = -2 WHERE datname = $1"

// A drop that was broken off leaves a database that nobody can connect to any
// more; an earlier move's target is one such. It is dropped to its end.
func TestMoveOntoAHalfDroppedDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("halved", "a")
	server := w.conn("b", "postgres")
	script(t, server, "CREATE DATABASE "+pg.Ident(db)+" CONNECTION LIMIT 0")
	_, err := server.Exec(t.Context(), halfDrop, db)
	require.NoError(t, err)
	w.moved("halved", "b")
	w.requireServedOnce("halved", "a", "b")
}

// So is the target of a move that is taken back, when its drop was broken off.
func TestTakingBackAHalfDroppedTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, _ := w.tenant("quartered", "a")
	server := w.conn("b", "postgres")
	w.hit = func(name string) error {
		if name != "move/cutover/hold" {
			return nil
		}
		inside := w.conn("b", db)
		var link string
		if err := inside.QueryRow(t.Context(), "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = $1", db).Scan(&link); err != nil {
			return err
		}
		if err := stream.Unsubscribe(t.Context(), inside, link); err != nil {
			return err
		}
		if _, err := server.Exec(t.Context(), halfDrop, db); err != nil {
			return err
		}
		return protocol.Final(operation.Permanent(errors.New("injected")))
	}
	op, _ := w.ended(w.move("quartered", "b"))
	require.Equal(t, operation.Failed, op.State, op.Error)
	require.Contains(t, op.Error, "injected")
	w.requireServedOnce("quartered", "a", "b")
	var left int
	require.NoError(t, server.QueryRow(t.Context(), "SELECT count(*) FROM pg_database WHERE datname = $1", db).Scan(&left))
	require.Zero(t, left)
}

// A copy that begins again makes the target anew; when that was broken off
// between dropping and making it, the next worker finds it half dropped.
func TestCopyingAgainOntoAHalfDroppedTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	w.stop()
	db, _ := w.tenant("eighth", "a")
	op := w.move("eighth", "b")
	w.killedAt(Kind + "/copy/begin")
	_, err := w.conn("b", "postgres").Exec(t.Context(), halfDrop, db)
	require.NoError(t, err)
	w.replica()
	op, _ = w.ended(op)
	require.Equal(t, operation.Done, op.State, op.Error)
	w.requireServedOnce("eighth", "a", "b")
}
