package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// Carried is what databases take of a shard: the more of what they use now and
// of what they use on average over a day.
type Carried struct {
	Databases   int     `json:"databases"`
	Bytes       float64 `json:"bytes"`
	Connections float64 `json:"connections"`
	Load        float64 `json:"load"`
	WAL         float64 `json:"wal"`
}

// ShardFigures is what a look at a shard found.
type ShardFigures struct {
	Rates                // of all its databases
	Day         DayRates `json:"day"`
	Tenants     Carried  `json:"tenants"` // by tenants' databases
	Other       Carried  `json:"other"`   // by all others: the warm pool, leftovers of moves, templates
	Active      int      `json:"active"`  // sessions in the middle of a statement, at that moment
	Sessions    int      `json:"sessions"`
	MaxSessions int      `json:"max_sessions"`
	Processors  int      `json:"processors"` // of its machine; 0: it doesn't say
	WALShare    float64  `json:"wal_share"`  // written since the last checkpoint began, as a share of max_wal_size
	Lag         int64    `json:"lag"`        // bytes that the slowest of its standbys and subscribers is behind
	Behind      string   `json:"behind"`     // who that is
	// Median and P95 are how long requests of its tenants took in the last
	// minute, in seconds; 0: there were none, or the nodes can't be heard.
	Median float64 `json:"median"`
	P95    float64 `json:"p95"`
	// Peaks are of Load in each of the last 24 hours, by hour of the day (UTC); -1: not seen.
	Peaks []float32 `json:"peaks"`
}

// Bytes of all its databases.
func (f ShardFigures) Bytes() float64 { return f.Tenants.Bytes + f.Other.Bytes }

// ShardReading is what a shard was seen to use.
type ShardReading struct {
	Shard      shardmap.ShardID
	State      ShardState
	MeasuredAt *time.Time    // the last look that worked; nil: none ever did
	Age        time.Duration // since then, by the catalog's clock; 0 if never
	Trouble    string        // why the last look did not work; empty: it did
	Keeper     string        // the replica that measures it; empty: none does now
	ShardFigures
}

const selectShardReading = `select s.id, s.state, u.measured_at, coalesce(extract(epoch from clock_timestamp() - u.measured_at), 0)::float8,
	coalesce(u.trouble, ''), case when u.keeper_until > clock_timestamp() then u.keeper else '' end, coalesce(u.figures, '{}')
	from shards s left join shard_usage u on u.shard = s.id`

func scanShardReading(row pgx.CollectableRow) (ShardReading, error) {
	var r ShardReading
	var age float64
	err := row.Scan(&r.Shard, &r.State, &r.MeasuredAt, &age, &r.Trouble, &r.Keeper, &r.ShardFigures)
	r.Age = time.Duration(age * float64(time.Second))
	return r, err
}

// GetShardReading reads what one shard uses. Errors: ErrNotFound (no such shard).
func (s *Store) GetShardReading(ctx context.Context, id shardmap.ShardID) (ShardReading, error) {
	r, err := one(ctx, s.pool, scanShardReading, selectShardReading+` where s.id = $1`, id)
	if err != nil {
		return r, fmt.Errorf("usage of shard %s: %w", id, err)
	}
	return r, nil
}

// ListShardReadings reads what all shards use, by ID; also those never measured.
func (s *Store) ListShardReadings(ctx context.Context) ([]ShardReading, error) {
	found, err := many(ctx, s.pool, scanShardReading, selectShardReading+` where s.state <> 'removed' order by s.id`)
	if err != nil {
		return nil, fmt.Errorf("list shards' usage: %w", err)
	}
	return found, nil
}

// KeepShardUsage gives the keeper the right to measure a shard for a while, or
// renews it; false: another has it, or there is no such shard.
func (s *Store) KeepShardUsage(ctx context.Context, id shardmap.ShardID, keeper string, lasts time.Duration) (bool, error) {
	tag, err := s.pool.Exec(ctx, `insert into shard_usage as u (shard, keeper, keeper_until)
		select id, $2, clock_timestamp() + make_interval(secs => $3) from shards where id = $1
		on conflict (shard) do update set keeper = excluded.keeper, keeper_until = excluded.keeper_until
		where u.keeper = excluded.keeper or u.keeper_until < clock_timestamp()`, id, keeper, lasts.Seconds())
	if err != nil {
		return false, fmt.Errorf("measure shard %s: %w", id, translate(err))
	}
	return tag.RowsAffected() > 0, nil
}

// LeaveShardUsage gives that right back, if the keeper has it.
func (s *Store) LeaveShardUsage(ctx context.Context, id shardmap.ShardID, keeper string) error {
	_, err := s.pool.Exec(ctx, `update shard_usage set keeper_until = '-infinity' where shard = $1 and keeper = $2`, id, keeper)
	if err != nil {
		return fmt.Errorf("measure shard %s: %w", id, translate(err))
	}
	return nil
}

// errNotKeeper: somebody else measures the shard by now.
var errNotKeeper = errors.New("another replica measures it")

// SaveShardReading keeps what a look found, or with trouble that it failed
// (figures stay as they were then), and renews the keeper's right.
// Errors: ErrConflict (another keeper has it).
func (s *Store) SaveShardReading(ctx context.Context, id shardmap.ShardID, keeper string, f ShardFigures, trouble string, lasts time.Duration) error {
	tag, err := s.pool.Exec(ctx, `update shard_usage set trouble = $3, keeper_until = clock_timestamp() + make_interval(secs => $5),
			figures = case when $3 = '' then $4::jsonb else figures end, measured_at = case when $3 = '' then clock_timestamp() else measured_at end
		where shard = $1 and keeper = $2`, id, keeper, trouble, f, lasts.Seconds())
	if err == nil && tag.RowsAffected() == 0 {
		return fmt.Errorf("usage of shard %s: %w: %w", id, errNotKeeper, ErrConflict)
	}
	if err != nil {
		return fmt.Errorf("usage of shard %s: %w", id, translate(err))
	}
	return nil
}

// TenantDatabases lists which databases of a shard tenants live in, by name.
func (s *Store) TenantDatabases(ctx context.Context, id shardmap.ShardID) (map[string]shardmap.TenantID, error) {
	rows, err := s.pool.Query(ctx, `select name, tenant from databases where shard = $1 and state = 'assigned'`, id)
	if err != nil {
		return nil, fmt.Errorf("databases of shard %s: %w", id, translate(err))
	}
	found := map[string]shardmap.TenantID{}
	var name, tenant string
	_, err = pgx.ForEachRow(rows, []any{&name, &tenant}, func() error {
		found[name] = shardmap.TenantID(tenant)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("databases of shard %s: %w", id, translate(err))
	}
	return found, nil
}

// saveReadings writes many tenants at once. Those who no longer live on the
// shard $1, or of whom another keeper than $2 knows more, are left as they are.
const saveReadings = `insert into tenant_usage as u (tenant, shard, measured_at, seconds, bytes, connections, load, wal, transactions,
		rows_read, rows_written, blocks_hit, blocks_read, requests, failed, request_seconds, day_connections, day_load, day_wal, busy, peaks)
	select n.tenant, $1, clock_timestamp(), n.seconds, n.bytes, n.connections, n.load, n.wal, n.transactions, n.rows_read, n.rows_written,
		n.blocks_hit, n.blocks_read, n.requests, n.failed, n.request_seconds, n.day_connections, n.day_load, n.day_wal, n.busy,
		($21::real[])[(n.nth - 1) * $22 + 1 : n.nth * $22]
	from unnest($3::text[], $4::float8[], $5::bigint[], $6::float8[], $7::float8[], $8::float8[], $9::float8[], $10::float8[], $11::float8[],
			$12::float8[], $13::float8[], $14::float8[], $15::float8[], $16::float8[], $17::float8[], $18::float8[], $19::float8[], $20::int[]) with ordinality
		n (tenant, seconds, bytes, connections, load, wal, transactions, rows_read, rows_written, blocks_hit, blocks_read,
			requests, failed, request_seconds, day_connections, day_load, day_wal, busy, nth)
	join placements p on p.tenant = n.tenant and p.shard = $1
	where exists (select from shard_usage k where k.shard = $1 and k.keeper = $2)
	order by n.tenant
	on conflict (tenant) do update set (shard, measured_at, seconds, bytes, connections, load, wal, transactions, rows_read, rows_written, blocks_hit,
			blocks_read, requests, failed, request_seconds, day_connections, day_load, day_wal, busy, peaks) =
		(excluded.shard, excluded.measured_at, excluded.seconds, excluded.bytes, excluded.connections, excluded.load, excluded.wal, excluded.transactions,
			excluded.rows_read, excluded.rows_written, excluded.blocks_hit, excluded.blocks_read, excluded.requests, excluded.failed,
			excluded.request_seconds, excluded.day_connections, excluded.day_load, excluded.day_wal, excluded.busy, excluded.peaks)`

const (
	// peakSlots of a tenant are saved, one for each hour of the day.
	peakSlots = 24
	// readingsAtOnce bounds one statement: 10,000 tenants take a few.
	readingsAtOnce = 5000
)

// SaveTenantReadings keeps what tenants of a shard use, many in one statement.
// Those who no longer live there are left out, and all if the keeper no longer measures the shard.
func (s *Store) SaveTenantReadings(ctx context.Context, id shardmap.ShardID, keeper string, readings []TenantReading) error {
	for chunk := range slices.Chunk(readings, readingsAtOnce) {
		if err := s.saveChunk(ctx, id, keeper, chunk); err != nil {
			return fmt.Errorf("usage of tenants on shard %s: %w", id, translate(err))
		}
	}
	return nil
}

func (s *Store) saveChunk(ctx context.Context, id shardmap.ShardID, keeper string, readings []TenantReading) error {
	tenants, bytes, busy := make([]string, len(readings)), make([]int64, len(readings)), make([]int32, len(readings))
	peaks := make([]float32, 0, peakSlots*len(readings))
	const columns = 15
	var figures [columns][]float64
	for i, r := range readings {
		tenants[i], bytes[i], busy[i] = string(r.Tenant), r.Bytes, int32(r.Busy) //nolint:gosec // 24 bits
		n, d := r.Now, r.Day
		for c, v := range [columns]float64{r.Seconds, n.Connections, n.Load, n.WAL, n.Transactions, n.RowsRead, n.RowsWritten, n.BlocksHit, n.BlocksRead,
			n.Requests, n.Failed, n.RequestSeconds, d.Connections, d.Load, d.WAL} {
			figures[c] = append(figures[c], v)
		}
		for h := range peakSlots {
			peak := float32(-1)
			if h < len(r.Peaks) {
				peak = r.Peaks[h]
			}
			peaks = append(peaks, peak)
		}
	}
	args := []any{id, keeper, tenants, figures[0], bytes}
	for _, f := range figures[1:] {
		args = append(args, f)
	}
	_, err := s.pool.Exec(ctx, saveReadings, append(args, busy, peaks, peakSlots)...)
	return err
}
