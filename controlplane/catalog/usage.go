package catalog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// Rates is what is used of a server, averaged over the last minutes. All but
// Connections are per second.
type Rates struct {
	Connections    float64 `json:"connections"`     // client sessions open
	Load           float64 `json:"load"`            // seconds of executing statements: 1 keeps one core busy
	WAL            float64 `json:"wal"`             // bytes of log
	Transactions   float64 `json:"transactions"`    // committed or rolled back
	RowsRead       float64 `json:"rows_read"`       // rows that scans returned
	RowsWritten    float64 `json:"rows_written"`    // rows inserted, updated or deleted
	BlocksHit      float64 `json:"blocks_hit"`      // blocks found in the server's cache
	BlocksRead     float64 `json:"blocks_read"`     // and those that were not
	Requests       float64 `json:"requests"`        // requests at the data plane
	Failed         float64 `json:"failed"`          // of these, those answered with 5xx
	RequestSeconds float64 `json:"request_seconds"` // time that requests took, of all together
}

// Latency is how long a request takes on average, in seconds; 0: there were none.
func (r Rates) Latency() float64 {
	if r.Requests < 1e-9 {
		return 0
	}
	return r.RequestSeconds / r.Requests
}

// DayRates are those figures of [Rates] that placement goes by, averaged over a day.
type DayRates struct {
	Connections float64 `json:"connections"`
	Load        float64 `json:"load"`
	WAL         float64 `json:"wal"`
}

// TenantReading is what a tenant was seen to use.
type TenantReading struct {
	Tenant     shardmap.TenantID
	Shard      shardmap.ShardID // where it lives; as it was measured if it was just moved
	MeasuredAt time.Time        // when the figures were written: they hold until they change
	Seconds    float64          // how long it was measured in all
	Bytes      int64
	Now        Rates
	Day        DayRates
	Busy       uint32    // bit h: the hour from h:00 UTC is one of its busy ones
	Peaks      []float32 // of Now.Load in each of the last 24 hours, by hour of the day (UTC); -1: not seen
}

const readingColumns = `u.measured_at, u.seconds, u.bytes, u.connections, u.load, u.wal, u.transactions, u.rows_read, u.rows_written,
	u.blocks_hit, u.blocks_read, u.requests, u.failed, u.request_seconds, u.day_connections, u.day_load, u.day_wal, u.busy, u.peaks`

func scanReading(row pgx.CollectableRow) (TenantReading, error) {
	var r TenantReading
	n := &r.Now
	err := row.Scan(&r.Tenant, &r.Shard, &r.MeasuredAt, &r.Seconds, &r.Bytes, &n.Connections, &n.Load, &n.WAL, &n.Transactions, &n.RowsRead, &n.RowsWritten,
		&n.BlocksHit, &n.BlocksRead, &n.Requests, &n.Failed, &n.RequestSeconds, &r.Day.Connections, &r.Day.Load, &r.Day.WAL, &r.Busy, &r.Peaks)
	return r, err
}

// GetTenantReading reads what one tenant uses. Errors: ErrNotFound (no such tenant, or it was never measured).
func (s *Store) GetTenantReading(ctx context.Context, id shardmap.TenantID) (TenantReading, error) {
	r, err := one(ctx, s.pool, scanReading, `select p.tenant, p.shard, `+readingColumns+`
		from tenant_usage u join placements p on p.tenant = u.tenant where u.tenant = $1`, id)
	if err != nil {
		return r, fmt.Errorf("usage of tenant %s: %w", id, err)
	}
	return r, nil
}

// TenantReadings reads what of these tenants was measured.
func (s *Store) TenantReadings(ctx context.Context, ids []shardmap.TenantID) ([]TenantReading, error) {
	found, err := many(ctx, s.pool, scanReading, `select u.tenant, u.shard, `+readingColumns+` from tenant_usage u where u.tenant = any($1)`, ids)
	if err != nil {
		return nil, fmt.Errorf("usage of tenants: %w", err)
	}
	return found, nil
}

// ReadingOrders are the figures that tenants can be sorted by, greatest first.
var ReadingOrders = []string{"load", "bytes", "connections", "wal", "transactions", "rows", "requests", "latency"}

// readingOrder has each of them twice: a cursor is made of what the query sorted by.
var readingOrder = map[string]struct {
	sql string
	of  func(TenantReading) float64
}{
	"load":         {"u.load", func(r TenantReading) float64 { return r.Now.Load }},
	"bytes":        {"u.bytes::float8", func(r TenantReading) float64 { return float64(r.Bytes) }},
	"connections":  {"u.connections", func(r TenantReading) float64 { return r.Now.Connections }},
	"wal":          {"u.wal", func(r TenantReading) float64 { return r.Now.WAL }},
	"transactions": {"u.transactions", func(r TenantReading) float64 { return r.Now.Transactions }},
	"rows":         {"u.rows_read + u.rows_written", func(r TenantReading) float64 { return r.Now.RowsRead + r.Now.RowsWritten }},
	"requests":     {"u.requests", func(r TenantReading) float64 { return r.Now.Requests }},
	"latency":      {"case when u.requests < 1e-9 then 0 else u.request_seconds / u.requests end", func(r TenantReading) float64 { return r.Now.Latency() }},
}

// TopTenants lists what tenants use, most of the figure by (see
// [ReadingOrders]) first; of one shard unless it is empty, and what sight shows. Deleted tenants and
// those never measured are left out. What changes while somebody turns the pages
// may be seen twice or not at all. Errors: ErrConflict (no such figure, or a cursor that no page had).
func (s *Store) TopTenants(ctx context.Context, by string, shard shardmap.ShardID, sight *Sight, p Page) (readings []TenantReading, next string, err error) {
	order, known := readingOrder[by]
	if !known {
		return nil, "", fmt.Errorf("sort tenants by %q: %w", by, ErrConflict)
	}
	value, after, _ := strings.Cut(p.After, " ")
	bound, malformed := strconv.ParseFloat(value, 64)
	if p.After != "" && (after == "" || malformed != nil) {
		return nil, "", fmt.Errorf("list tenants' usage: cursor %q: %w", p.After, ErrConflict)
	}
	all, ids, labels := sight.params()
	readings, err = many(ctx, s.pool, scanReading, `select p.tenant, p.shard, `+readingColumns+`
		from tenant_usage u join placements p on p.tenant = u.tenant
		where p.state <> 'deleted' and ($1 = '' or p.shard = $1) and ($2 = '' or (-(`+order.sql+`), u.tenant) > (-$3::float8, $2))
			and `+seenSQL("u.tenant", 5, 6, 7)+`
		order by -(`+order.sql+`), u.tenant limit $4`, shard, after, bound, p.Rows()+1, all, ids, labels)
	if err != nil {
		return nil, "", fmt.Errorf("list tenants' usage: %w", err)
	}
	readings, next = CutPage(p, readings, func(r TenantReading) string {
		return strconv.FormatFloat(order.of(r), 'g', -1, 64) + " " + string(r.Tenant)
	})
	return readings, next, nil
}

// PlacedTenant is a tenant that has a place, and what of a shard it takes: the
// more of what it uses now and of what it uses on average over a day.
type PlacedTenant struct {
	Tenant                 shardmap.TenantID
	Shard                  shardmap.ShardID
	State                  shardmap.State
	ChangedAt              time.Time // of the placement
	Measured               bool      // false: the figures are 0
	Bytes                  float64
	Connections, Load, WAL float64
	Busy                   uint32
}

// EachPlacedTenant calls take with every tenant that has a database, by ID: also
// with suspended ones, and with deleted ones that can still be restored. It ends
// with take's first error. A million takes some seconds.
func (s *Store) EachPlacedTenant(ctx context.Context, take func(PlacedTenant) error) error {
	rows, err := s.pool.Query(ctx, `select p.tenant, p.shard, p.state, p.changed_at, u.tenant is not null, coalesce(u.bytes, 0)::float8,
			coalesce(greatest(u.connections, u.day_connections), 0), coalesce(greatest(u.load, u.day_load), 0),
			coalesce(greatest(u.wal, u.day_wal), 0), coalesce(u.busy, 0)
		from placements p join tenants t on t.id = p.tenant left join tenant_usage u on u.tenant = p.tenant
		where t.purged_at is null order by p.tenant`)
	if err != nil {
		return fmt.Errorf("list placed tenants: %w", translate(err))
	}
	var t PlacedTenant
	var tenant, shard, state string
	_, err = pgx.ForEachRow(rows, []any{&tenant, &shard, &state, &t.ChangedAt, &t.Measured, &t.Bytes, &t.Connections, &t.Load, &t.WAL, &t.Busy}, func() error {
		t.Tenant, t.Shard, t.State = shardmap.TenantID(tenant), shardmap.ShardID(shard), shardmap.State(state)
		return take(t)
	})
	if err != nil {
		return fmt.Errorf("list placed tenants: %w", translate(err))
	}
	return nil
}
