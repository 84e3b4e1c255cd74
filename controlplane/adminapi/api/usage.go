package api

import (
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Use is what is used of a server, averaged over the last minutes.
type Use struct {
	// Load is seconds of executing statements a second: 1 keeps one core busy.
	Load        float64 `json:"load"`
	Connections float64 `json:"connections"`
	// WALBytes, Transactions and so on are per second.
	WALBytes     float64 `json:"wal_bytes_per_s"`
	Transactions float64 `json:"transactions_per_s"`
	RowsRead     float64 `json:"rows_read_per_s"`
	RowsWritten  float64 `json:"rows_written_per_s"`
	// CacheHit is the share of blocks that the server found in its cache; 1 if none was wanted.
	CacheHit float64 `json:"cache_hit"`
	Requests float64 `json:"requests_per_s"`
	// Failed are the requests answered with 5xx.
	Failed float64 `json:"failed_per_s"`
	// LatencyMS is how long a request takes on average; 0: there are none.
	LatencyMS float64 `json:"latency_ms"`
}

// DayUse is averaged over a day.
type DayUse struct {
	Load        float64 `json:"load"`
	Connections float64 `json:"connections"`
	WALBytes    float64 `json:"wal_bytes_per_s"`
}

// TenantUsage is what a tenant uses of its shard.
type TenantUsage struct {
	Tenant shardmap.TenantID `json:"tenant"`
	Shard  shardmap.ShardID  `json:"shard"`
	// MeasuredAt is when its figures last changed; absent: it was never measured.
	MeasuredAt *time.Time `json:"measured_at,omitempty"`
	// MeasuredSeconds is how long it was measured in all.
	MeasuredSeconds float64 `json:"measured_seconds"`
	Bytes           int64   `json:"bytes"`
	Now             Use     `json:"now"`
	Day             DayUse  `json:"day"`
	// BusyHours are those hours of the day (UTC) in which it is better not moved.
	BusyHours []int `json:"busy_hours"`
	// Peaks are the greatest load of each of the last 24 hours, by hour of the day (UTC); -1: not seen.
	Peaks []float32 `json:"peaks"`
}

// ShardUsage is what a shard carries.
type ShardUsage struct {
	Shard shardmap.ShardID `json:"shard"`
	// State is active, cordoned, draining or down.
	State string `json:"state"`
	// MeasuredAt is the last look that worked; absent: none did. AgeSeconds is how long ago that was.
	MeasuredAt *time.Time `json:"measured_at,omitempty"`
	AgeSeconds float64    `json:"age_seconds"`
	// Trouble is why the last look did not work.
	Trouble string `json:"trouble,omitempty"`
	// Keeper is the replica that measures it.
	Keeper string `json:"keeper,omitempty"`
	// Tenants are those whose use is known, TenantBytes theirs of Bytes.
	Tenants     int     `json:"tenants"`
	Bytes       float64 `json:"bytes"`
	TenantBytes float64 `json:"tenant_bytes"`
	Now         Use     `json:"now"`
	Day         DayUse  `json:"day"`
	// Active sessions were in the middle of a statement at the last look.
	Active      int `json:"active"`
	Sessions    int `json:"sessions"`
	MaxSessions int `json:"max_sessions"`
	// Processors of its machine; 0: it doesn't say.
	Processors int `json:"processors"`
	// LagBytes is how far the slowest of its standbys and subscribers is behind, Behind who that is.
	LagBytes int64  `json:"lag_bytes"`
	Behind   string `json:"behind,omitempty"`
	// MedianMS and P95MS are how long requests of its tenants took in the last minute.
	MedianMS float64   `json:"median_ms"`
	P95MS    float64   `json:"p95_ms"`
	Peaks    []float32 `json:"peaks"`
}

// TenantUsageOrders and ShardUsageOrders are the figures that usage can be
// sorted by, greatest first.
var (
	TenantUsageOrders = []string{"load", "bytes", "connections", "wal", "transactions", "rows", "requests", "latency"}
	ShardUsageOrders  = append(TenantUsageOrders[:len(TenantUsageOrders):len(TenantUsageOrders)], "lag", "tenants")
)
