package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/schemachange"
)

// The catalog's lease says who works on a move, but a worker that was stopped
// and wakes up after its lease is gone acts before it notices. So the shards
// keep the newest worker's fencing token as well, in a table of the platform's
// schema, and fences are raised and lowered only by the worker it names, in the
// transaction that holds the table: a later worker that claims the database
// ends that session, and with it what was not committed.
const (
	guardTable = "freehold.move_worker"
	// A worker that is stopped inside the guard after a later one has claimed
	// the database would keep that one waiting: the server ends its session.
	guardIdle = "SET LOCAL idle_in_transaction_session_timeout = '30s'"
	guardHold = "LOCK TABLE " + guardTable + " IN ROW SHARE MODE"
	guardRead = "SELECT coalesce(max(token), 0) FROM " + guardTable + " WHERE operation = $1"
)

// lease is a worker's hold on an operation.
type lease struct {
	operation string
	token     int64
}

func leaseOf(r *run) lease { return lease{r.Op.ID, r.Token()} }

// claim makes this worker the one whom the database obeys. conn is inside it.
// Tokens order the workers of one operation only. Of two operations the
// catalog knows which is under way (a tenant has one at most), so held asks it,
// while nobody else can claim: who was stopped between that and the end of the
// claim finds the session ended by whoever came meanwhile.
// Errors: operation.ErrLeaseLost if a later worker was there, or the operation is over.
func claim(ctx context.Context, conn *pgx.Conn, l lease, held func(context.Context) error) error {
	// Whoever holds the guard is either done in a moment or was stopped inside it.
	_, err := conn.Exec(ctx, `SELECT pg_catalog.pg_terminate_backend(l.pid) FROM pg_catalog.pg_locks l
		WHERE l.locktype = 'relation' AND l.relation = pg_catalog.to_regclass('`+guardTable+`') AND l.pid <> pg_catalog.pg_backend_pid()
		AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())`)
	if err != nil {
		return fmt.Errorf("claim the database: %w", err)
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, sql := range []string{guardIdle, "CREATE TABLE IF NOT EXISTS " + guardTable + " (operation text NOT NULL, token bigint NOT NULL)",
			"LOCK TABLE " + guardTable + " IN EXCLUSIVE MODE"} {
			if _, err := tx.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		if err := held(ctx); err != nil {
			return err
		}
		var newest int64
		if err := tx.QueryRow(ctx, guardRead, l.operation).Scan(&newest); err != nil {
			return err
		}
		if newest > l.token {
			return operation.ErrLeaseLost
		}
		if newest == l.token {
			return nil
		}
		if _, err := tx.Exec(ctx, "DELETE FROM "+guardTable); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO "+guardTable+" VALUES ($1, $2)", l.operation, l.token)
		return err
	})
	if err != nil {
		return fmt.Errorf("claim the database: %w", err)
	}
	return nil
}

// guarded runs fn in a transaction on conn, inside the database, that a later
// worker ends when it claims the database: what fn does there is done by the
// worker that the database obeys, or not at all.
// Errors: operation.ErrLeaseLost, and fn is not run.
func guarded(ctx context.Context, conn *pgx.Conn, l lease, fn func(conn *pgx.Conn) error) error {
	if err := doGuarded(ctx, conn, l, fn); err != nil {
		return err
	}
	return commitGuarded(ctx, conn)
}

// doGuarded is guarded without the commit.
func doGuarded(ctx context.Context, conn *pgx.Conn, l lease, fn func(conn *pgx.Conn) error) error {
	batch := &pgx.Batch{}
	batch.Queue("BEGIN")
	batch.Queue(guardIdle)
	batch.Queue(guardHold)
	var newest int64
	batch.Queue(guardRead, l.operation).QueryRow(func(row pgx.Row) error { return row.Scan(&newest) })
	err := conn.SendBatch(ctx, batch).Close()
	if err == nil && newest != l.token || pg.Code(err) == pgerrcode.UndefinedTable { // no table: the move is over
		err = operation.ErrLeaseLost
	}
	if err == nil {
		err = fn(conn)
	}
	if err != nil {
		return errors.Join(err, unguard(conn))
	}
	return nil
}

func commitGuarded(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "COMMIT", pgx.QueryExecModeSimpleProtocol); err != nil {
		return errors.Join(fmt.Errorf("commit as the database's worker: %w", err), unguard(conn))
	}
	return nil
}

// ready is a guarded transaction that is made, while others are waited for, up
// to its commit: until then nothing is done.
type ready struct {
	conn *pgx.Conn
	made chan struct{} // closed when err is known
	err  error
}

// getReady is the first part of guarded, which ends with ctx or after the time
// given. Nobody else may use conn until the commit, or [ready.wait].
func getReady(ctx context.Context, within time.Duration, conn *pgx.Conn, l lease, fn func(ctx context.Context, conn *pgx.Conn) error) *ready {
	p := &ready{conn: conn, made: make(chan struct{})}
	go func() {
		defer close(p.made)
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		p.err = doGuarded(ctx, conn, l, func(conn *pgx.Conn) error { return fn(ctx, conn) })
	}()
	return p
}

// commit is the second part.
func (p *ready) commit(ctx context.Context) error {
	p.wait()
	if p.err != nil {
		return p.err
	}
	return commitGuarded(ctx, p.conn)
}

// wait returns when conn is free, with the transaction open. On nil it does at once.
func (p *ready) wait() {
	if p != nil {
		<-p.made
	}
}

// unguardFor bounds what must happen whatever became of the step's context.
const unguardFor = 15 * time.Second

// unguard ends the guard's transaction with nothing done.
func unguard(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), unguardFor)
	defer cancel()
	if conn.IsClosed() {
		return nil // its transaction ended with it
	}
	_, err := conn.Exec(ctx, "ROLLBACK", pgx.QueryExecModeSimpleProtocol)
	return err
}

// dropped drops tables of ours, in one simple query. That is nothing to those
// who read the tenant's schema, though what keeps their long values is in none of ours.
func dropped(tables string) string {
	return schemachange.Unnoted + "; DROP TABLE IF EXISTS " + tables
}

// unclaim takes the guard away; from then on nobody is obeyed.
func unclaim(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, dropped(guardTable), pgx.QueryExecModeSimpleProtocol)
	return err
}
