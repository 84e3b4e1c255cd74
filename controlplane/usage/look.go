package usage

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/internal/pg"
)

// look is what one look at a shard saw.
type look struct {
	at        time.Time
	databases []seen
	lsn       float64 // bytes of log ever written
	sessions  int
	most      int // sessions that the server takes
	load      pace.Load
	logged    map[uint32]float64 // bytes of log by database, since they are counted; nil: not known
}

// seen is one database.
type seen struct {
	oid      uint32
	name     string
	sessions int // of clients, ours apart
	counters counters
}

// databasesSQL reads what Postgres shares of all its databases at once. Our own
// sessions are told by their login, which no tenant can take on.
// active_time has a statement only once it has ended; what runs is added.
const databasesSQL = `
SELECT d.datid, d.datname::text, coalesce(a.sessions, 0)::int, coalesce(extract(epoch FROM d.stats_reset), 0)::float8,
	(d.xact_commit + d.xact_rollback)::float8, d.blks_hit::float8, d.blks_read::float8, d.tup_returned::float8,
	(d.tup_inserted + d.tup_updated + d.tup_deleted)::float8, d.active_time + coalesce(a.running, 0)::float8
FROM pg_catalog.pg_stat_database d LEFT JOIN (
	SELECT datid, count(*) FILTER (WHERE usename <> session_user) AS sessions,
		sum(1000 * extract(epoch FROM clock_timestamp() - state_change)) FILTER (WHERE state = 'active') AS running
	FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend' GROUP BY datid) a ON a.datid = d.datid
WHERE d.datid <> 0 AND d.datname IS NOT NULL`

const serverSQL = `
SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0')::float8, pg_catalog.current_setting('max_connections')::int,
	(SELECT count(*)::int FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend')`

// application names our sessions.
const application = "freehold-usage"

// read looks at the shard that conn is connected to: three statements, and two
// more where pg_stat_statements is at hand.
func (w *watch) read(ctx context.Context, conn *pgx.Conn) (l look, err error) {
	if l.load, err = pace.Read(ctx, conn, "", application, w.processors); err != nil {
		return l, err
	}
	if err := conn.QueryRow(ctx, serverSQL).Scan(&l.lsn, &l.most, &l.sessions); err != nil {
		return l, fmt.Errorf("read the server's statistics: %w", err)
	}
	rows, err := conn.Query(ctx, databasesSQL)
	if err == nil {
		var s seen
		c := &s.counters
		_, err = pgx.ForEachRow(rows, []any{&s.oid, &s.name, &s.sessions, &c.reset, &c.transactions, &c.blocksHit, &c.blocksRead, &c.rowsRead, &c.rowsWritten, &c.busy}, func() error {
			l.databases = append(l.databases, s)
			return nil
		})
	}
	if err != nil {
		return l, fmt.Errorf("read the databases' statistics: %w", err)
	}
	l.at = time.Now()
	l.logged = w.readStatements(ctx, conn)
	return l, nil
}

// statementsSQL finds pg_stat_statements, if the maintenance database has it.
const statementsSQL = `SELECT coalesce((SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
	WHERE e.extname = 'pg_stat_statements' AND 'pg_stat_statements' = ANY (pg_catalog.string_to_array(pg_catalog.replace(pg_catalog.current_setting('shared_preload_libraries'), ' ', ''), ','))), '')::text`

// readStatements sums up the log that statements wrote, by database; nil if that
// is not known. What is kept of statements is bounded: once some were dropped to
// make room, sums mean nothing until the next look.
func (w *watch) readStatements(ctx context.Context, conn *pgx.Conn) map[uint32]float64 {
	if w.statements == "" {
		return nil
	}
	logged, dropped, err := statements(ctx, conn, pg.Ident(w.statements))
	if err != nil { // somebody dropped it; a lost connection is noticed elsewhere
		w.statements = ""
		return nil
	}
	same := dropped == w.dropped
	w.dropped = dropped
	if !same {
		return nil
	}
	return logged
}

func statements(ctx context.Context, conn *pgx.Conn, in string) (logged map[uint32]float64, dropped int64, err error) {
	if err := conn.QueryRow(ctx, "SELECT dealloc FROM "+in+".pg_stat_statements_info").Scan(&dropped); err != nil {
		return nil, 0, err
	}
	rows, err := conn.Query(ctx, "SELECT dbid, sum(wal_bytes)::float8 FROM "+in+".pg_stat_statements(false) WHERE toplevel GROUP BY dbid")
	if err != nil {
		return nil, 0, err
	}
	logged = map[uint32]float64{}
	var oid uint32
	var bytes float64
	_, err = pgx.ForEachRow(rows, []any{&oid, &bytes}, func() error {
		logged[oid] = bytes
		return nil
	})
	return logged, dropped, err
}

// readSizes measures some databases' directories. Those that are gone by now are left out.
func readSizes(ctx context.Context, conn *pgx.Conn, oids []uint32) (map[uint32]int64, error) {
	rows, err := conn.Query(ctx, `SELECT oid, pg_catalog.pg_database_size(oid) FROM pg_catalog.pg_database WHERE oid = ANY ($1::oid[])`, oids)
	if err != nil {
		return nil, fmt.Errorf("read databases' sizes: %w", err)
	}
	sizes := make(map[uint32]int64, len(oids))
	var oid uint32
	var bytes *int64
	_, err = pgx.ForEachRow(rows, []any{&oid, &bytes}, func() error {
		if bytes != nil {
			sizes[oid] = *bytes
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read databases' sizes: %w", err)
	}
	return sizes, nil
}
