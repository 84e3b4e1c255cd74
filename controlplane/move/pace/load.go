package pace

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Load is what one server shows of its strain.
type Load struct {
	Active     int     // sessions in the middle of a statement, the move's own apart
	Others     int     // sessions with a statement in the last second, the platform's own apart
	Processors int     // of its machine; 0: it doesn't say
	WAL        float64 // written since the last checkpoint began, as a share of max_wal_size
	Lag        int64   // bytes that the slowest of its standbys and subscribers is behind
	Behind     string  // who that is
}

// Bounds are what a server may show before a copy slows down. Zero values mean the default in brackets.
type Bounds struct {
	Active int     // sessions active at once [4 for each processor, or 32]
	WAL    float64 // [0.9]: at 1 the server has not kept up with its checkpoints
	Lag    int64   // bytes [256 MB]
}

const (
	activeEach    = 4
	activeUnknown = 32
	walShare      = 0.9
	lagBytes      = 256 << 20
)

// Strain says by which of its figures the server shows more than it may; "" if by none.
func (b Bounds) Strain(server string, l Load) string {
	active := b.Active
	if active <= 0 {
		if active = activeEach * l.Processors; active == 0 {
			active = activeUnknown
		}
	}
	wal, lag := b.WAL, b.Lag
	if wal <= 0 {
		wal = walShare
	}
	if lag <= 0 {
		lag = lagBytes
	}
	switch {
	case l.Lag > lag:
		return fmt.Sprintf("%s, which follows %s, is %.0f MB behind (at most %.0f)", l.Behind, server, float64(l.Lag)/1e6, float64(lag)/1e6)
	case l.WAL > wal:
		return fmt.Sprintf("%s has written %.0f %% of max_wal_size since its last checkpoint (at most %.0f)", server, 100*l.WAL, 100*wal)
	case l.Active > active:
		return fmt.Sprintf("%d sessions are active on %s (at most %d)", l.Active, server, active)
	}
	return ""
}

// loadSQL asks a server; $1 is the move's own slot, $2 the application name of
// the move's own sessions. The platform's own are named freehold-something;
// nodes serve tenants as plain freehold (pg.ApplicationName). Inactive slots are left out: nobody would come to
// take what they keep, however long a copy waits.
const loadSQL = `
SELECT
	(SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend' AND application_name <> $2),
	pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), (SELECT redo_lsn FROM pg_catalog.pg_control_checkpoint()))::float8
		/ pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size')),
	coalesce(behind.bytes, 0), coalesce(behind.who, ''),
	(SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend' AND application_name NOT LIKE 'freehold-%'
		AND (state = 'active' OR state_change > pg_catalog.clock_timestamp() - '1 second'::pg_catalog.interval))
FROM (SELECT) one LEFT JOIN LATERAL (
	SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), coalesce(r.replay_lsn, s.confirmed_flush_lsn, s.restart_lsn))::bigint AS bytes,
		coalesce(s.slot_name, r.application_name)::text AS who
	FROM pg_catalog.pg_stat_replication r LEFT JOIN pg_catalog.pg_replication_slots s ON s.active_pid = r.pid
	WHERE s.slot_name IS DISTINCT FROM $1
	ORDER BY 1 DESC NULLS LAST LIMIT 1) behind ON true`

// processorsSQL asks Linux, through the server; elsewhere, and where the
// login may not, the answer is an error.
const processorsSQL = `SELECT count(*)::int FROM pg_catalog.regexp_matches(pg_catalog.pg_read_file('/proc/stat'), '^cpu[0-9]', 'gn')`

// Read asks the server that conn is connected to, of which processors are known to be there.
func Read(ctx context.Context, conn *pgx.Conn, slot, application string, processors int) (Load, error) {
	l := Load{Processors: processors}
	if err := conn.QueryRow(ctx, loadSQL, slot, application).Scan(&l.Active, &l.WAL, &l.Lag, &l.Behind, &l.Others); err != nil {
		return l, fmt.Errorf("read the server's load: %w", err)
	}
	return l, nil
}

// Processors of the server's machine, 0 if it doesn't say.
func Processors(ctx context.Context, conn *pgx.Conn) int {
	var n int
	if conn.QueryRow(ctx, processorsSQL).Scan(&n) != nil {
		return 0
	}
	return n
}
