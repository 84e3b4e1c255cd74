package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

// Entry is one record of the log.
type Entry struct {
	Position int64  // place in the log, from 1, gap-free
	Source   string // the catalog it came from
	Sequence int64  // place in the source, from 1, gap-free
	Record   catalog.AuditRecord
	LoggedAt time.Time
	// Text is the record as the tree covers it, Hash its leaf there.
	Text string
	Hash tlog.Hash
}

// Filter narrows a list; zero fields don't.
type Filter struct {
	Tenant shardmap.TenantID
	// Tenants narrows to these; nil doesn't, an empty list shows nothing.
	Tenants       []shardmap.TenantID
	Actor, Action string
	From, Until   time.Time // when it happened: From ≤ time < Until
	// Above, if it is positive, has the list begin behind that position and go
	// on upwards: for those who follow the log.
	Above int64
	// Upwards lists the oldest first, from Above (0: the first) on.
	Upwards bool
}

// List lists newest first, or upwards if f says so. next is the cursor of the following page, empty after the last.
// Errors: catalog.ErrNotFound for a cursor that is none, catalog.ErrUnavailable.
func (l *Log) List(ctx context.Context, f Filter, p catalog.Page) (entries []Entry, next string, err error) {
	return l.list(ctx, l.pool, "audit_log", f, p)
}

// ListTenant is List of what concerns one tenant, by a view that shows nothing else.
func (l *Log) ListTenant(ctx context.Context, tenant shardmap.TenantID, f Filter, p catalog.Page) (entries []Entry, next string, err error) {
	f.Tenant = tenant
	tx, err := l.pool.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, "", fmt.Errorf("audit log: %w", catalog.Classify(err))
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = tx.Rollback(ctx) // it only read
	}()
	if _, err := tx.Exec(ctx, `select set_config('freehold.tenant', $1, true)`, tenant); err != nil {
		return nil, "", fmt.Errorf("audit log: %w", catalog.Classify(err))
	}
	return l.list(ctx, tx, "audit_of_tenant", f, p)
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func (l *Log) list(ctx context.Context, db querier, from string, f Filter, p catalog.Page) (entries []Entry, next string, err error) {
	after := f.Above
	if p.After != "" {
		if after, err = strconv.ParseInt(p.After, 10, 64); err != nil {
			return nil, "", fmt.Errorf("audit log: cursor %.64q: %w", p.After, catalog.ErrNotFound)
		}
	}
	beyond, order := `($1 = 0 or position < $1)`, `desc`
	if f.Upwards {
		beyond, order = `position > $1`, `asc`
	}
	rows, err := db.Query(ctx, `select entry from `+from+` where `+beyond+`
			and ($2 = '' or tenant = $2) and ($3 = '' or actor = $3) and ($4 = '' or action = $4)
			and ($5::timestamptz is null or happened >= $5) and ($6::timestamptz is null or happened < $6)
			and ($8::text[] is null or tenant = any($8))
		order by position `+order+` limit $7`,
		after, f.Tenant, f.Actor, f.Action, timeOrNull(f.From), timeOrNull(f.Until), p.Rows()+1, f.Tenants)
	if err != nil {
		return nil, "", fmt.Errorf("audit log: %w", catalog.Classify(err))
	}
	entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Entry, error) {
		var text string
		if err := row.Scan(&text); err != nil {
			return Entry{}, err
		}
		return decode(text)
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

// leaf is the text of an entry, which the tree covers.
type leaf struct {
	Position int64               `json:"position"`
	Source   string              `json:"source"`
	Sequence int64               `json:"sequence"`
	LoggedAt time.Time           `json:"logged_at"`
	Record   catalog.AuditRecord `json:"record"`
}

func decode(text string) (Entry, error) {
	var l leaf
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return Entry{}, fmt.Errorf("a record can't be read: %w", err)
	}
	return Entry{Position: l.Position, Source: l.Source, Sequence: l.Sequence, Record: l.Record, LoggedAt: l.LoggedAt,
		Text: text, Hash: tlog.RecordHash([]byte(text))}, nil
}
