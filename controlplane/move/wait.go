package move

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/sleep"
	"github.com/freehold-db/freehold/shardmap"
)

// jitter spreads retries of many moves.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // no secret
}

// writersSQL names the transaction for which who makes a slot waits the longest.
const writersSQL = `
SELECT 'pid ' || pid || ' (' || coalesce(usename, '?') || coalesce(' in ' || datname, '') || ') to end its transaction, open for ' || date_trunc('second', clock_timestamp() - xact_start)
FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid() ORDER BY xact_start LIMIT 1`

// whileWaiting reports every second what a server answers to a question about
// what is waited for there, until stopped; then it returns the last answer. No
// row is none.
func (s *Service) whileWaiting(ctx context.Context, r *run, on shardmap.ShardID, p operation.Progress, sql string, args ...any) (stop func() (last string)) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	last := ""
	go func() {
		defer close(done)
		if sleep.For(ctx, time.Second) != nil {
			return // most waits are none
		}
		conn, err := s.connect(ctx, on, maintenance)
		if err != nil {
			return
		}
		defer closeConn(conn)
		for ; ctx.Err() == nil; _ = sleep.For(ctx, time.Second) { // its context ends the loop
			var what string
			if conn.QueryRow(ctx, sql, args...).Scan(&what) == nil {
				last, p.Waiting = what, "for "+what
				r.Report(p)
			}
		}
	}()
	return func() string { cancel(); <-done; return last }
}
