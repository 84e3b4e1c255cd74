package data

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// worker has a connection to each side.
type worker struct{ source, target *pgx.Conn }

// targetSettings: triggers of the target don't fire on rows that had their
// triggers at the source; what is written is made durable before the cutover.
const targetSettings = settings + "; SET session_replication_role = replica; SET synchronous_commit = off"

func (r *run) open(ctx context.Context) (*worker, error) {
	w := &worker{}
	var err error
	if w.source, err = r.Source(ctx); err != nil {
		return nil, err
	}
	if w.target, err = r.Target(ctx); err != nil {
		w.close()
		return nil, err
	}
	for conn, sql := range map[*pgx.Conn]string{w.source: settings, w.target: targetSettings} {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			w.close()
			return nil, fmt.Errorf("copy settings: %w", err)
		}
	}
	return w, nil
}

func (w *worker) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeFor)
	defer cancel()
	for _, c := range []*pgx.Conn{w.source, w.target} {
		if c != nil {
			_ = c.Close(ctx) // the server notices either way
		}
	}
}

// inSnapshot runs fn in a reading transaction of conn that sees the snapshot.
func inSnapshot(ctx context.Context, conn *pgx.Conn, snapshot string, fn func() error) error {
	if _, err := conn.Exec(ctx, begin(snapshot), pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("use the snapshot: %w", err)
	}
	if err := fn(); err != nil {
		return err // the connection goes with the worker
	}
	if _, err := conn.Exec(ctx, "COMMIT", pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("leave the snapshot: %w", err)
	}
	return nil
}

// begin opens a reading transaction that sees the snapshot. Its name is the
// server's own; it has digits, letters and hyphens.
func begin(snapshot string) string {
	return "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '" + strings.ReplaceAll(snapshot, "'", "") + "'"
}
