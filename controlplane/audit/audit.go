// Package audit keeps the log of who did what in a database of its own:
// append-only, gap-free per source, each record chained to the one before by
// SHA-256. Records are born in the catalog's transactions and carried here.
//
// The chain shows that somebody rewrote a record in the middle; who can
// rewrite the database and the whole chain is to be caught by a head hash kept elsewhere.
//
// Import law: of this module, audit imports shardmap, internal packages and controlplane/catalog only.
package audit

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/shardmap"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the audit database's schema up to this binary's; safe for several replicas at once.
func Migrate(ctx context.Context, dsn string) error {
	if err := catalog.MigrateTo(ctx, dsn, migrations); err != nil {
		return fmt.Errorf("migrate audit database: %w", err)
	}
	return nil
}

// Log is the audit database. All methods are safe for concurrent use.
type Log struct{ pool *pgxpool.Pool }

// Open connects to a migrated audit database.
func Open(ctx context.Context, dsn string) (*Log, error) {
	cfg, err := pg.PoolConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("audit database: %w", err) // pgx leaves the password out of it
	}
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("audit database: %w", catalog.Classify(err))
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("audit database: %w", catalog.Classify(err))
	}
	return &Log{pool: pool}, nil
}

// Close ends all connections.
func (l *Log) Close() { l.pool.Close() }

// Entry is one record of the log.
type Entry struct {
	Position int64  // place in the chain, from 1, gap-free
	Source   string // the catalog it came from
	Sequence int64  // place in the source, from 1, gap-free
	Record   catalog.AuditRecord
	LoggedAt time.Time
	PrevHash []byte
	Hash     []byte
}

// Filter narrows a list; zero fields don't.
type Filter struct {
	Tenant        shardmap.TenantID
	Actor, Action string
	From, Until   time.Time // when it happened: From ≤ time < Until
}

// List lists newest first. next is the cursor of the following page, empty after the last.
// Errors: catalog.ErrNotFound for a cursor that is none, catalog.ErrUnavailable.
func (l *Log) List(ctx context.Context, f Filter, p catalog.Page) (entries []Entry, next string, err error) {
	var after int64
	if p.After != "" {
		if after, err = strconv.ParseInt(p.After, 10, 64); err != nil {
			return nil, "", fmt.Errorf("audit log: cursor %.64q: %w", p.After, catalog.ErrNotFound)
		}
	}
	rows, err := l.pool.Query(ctx, `select `+columns+` from audit_log
		where ($1 = 0 or position < $1) and ($2 = '' or tenant = $2) and ($3 = '' or actor = $3) and ($4 = '' or action = $4)
			and ($5::timestamptz is null or happened >= $5) and ($6::timestamptz is null or happened < $6)
		order by position desc limit $7`,
		after, f.Tenant, f.Actor, f.Action, timeOrNull(f.From), timeOrNull(f.Until), p.Rows()+1)
	if err != nil {
		return nil, "", fmt.Errorf("audit log: %w", catalog.Classify(err))
	}
	entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Entry, error) {
		r, err := scanRow(row)
		if err != nil {
			return Entry{}, err
		}
		return r.decode()
	})
	if err != nil {
		return nil, "", fmt.Errorf("audit log: %w", catalog.Classify(err))
	}
	entries, next = catalog.CutPage(p, entries, func(e Entry) string { return strconv.FormatInt(e.Position, 10) })
	return entries, next, nil
}

func timeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

// hashed is what the hash of an entry covers, beside the hash before.
type hashed struct {
	Position int64               `json:"position"`
	Source   string              `json:"source"`
	Sequence int64               `json:"sequence"`
	LoggedAt time.Time           `json:"logged_at"`
	Record   catalog.AuditRecord `json:"record"`
}

// row is an entry as it is stored.
type row struct {
	hashed // the columns only; Record has what they have of it
	entry  string
	prev   []byte
	hash   []byte
}

const columns = `position, source::text, sequence, logged_at, tenant, actor, action, happened, entry, prev_hash, hash`

func scanRow(from pgx.CollectableRow) (row, error) {
	var r row
	err := from.Scan(&r.Position, &r.Source, &r.Sequence, &r.LoggedAt, &r.Record.Tenant, &r.Record.Actor.Name,
		&r.Record.Action, &r.Record.Time, &r.entry, &r.prev, &r.hash)
	return r, err
}

func (r row) decode() (Entry, error) {
	var h hashed
	if err := json.Unmarshal([]byte(r.entry), &h); err != nil {
		return Entry{}, fmt.Errorf("record %d: %w", r.Position, errors.Join(errGarbled, err))
	}
	return Entry{Position: h.Position, Source: h.Source, Sequence: h.Sequence, Record: h.Record,
		LoggedAt: h.LoggedAt, PrevHash: r.prev, Hash: r.hash}, nil
}

var errGarbled = errors.New("entry can't be read")
