package adminapi

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

// Usage is what the API reads of what shards and tenants use (*catalog.Store).
type Usage interface {
	GetTenantReading(ctx context.Context, id shardmap.TenantID) (catalog.TenantReading, error)
	TopTenants(ctx context.Context, by string, shard shardmap.ShardID, sight *catalog.Sight, p catalog.Page) ([]catalog.TenantReading, string, error)
	GetShardReading(ctx context.Context, id shardmap.ShardID) (catalog.ShardReading, error)
	ListShardReadings(ctx context.Context) ([]catalog.ShardReading, error)
}

// readOrder takes the parameter sort; the default is the first of the orders.
func readOrder(c *call, orders []string) (string, error) {
	by := c.query.Get("sort")
	switch {
	case by == "":
		return orders[0], nil
	case slices.Contains(orders, by):
		return by, nil
	}
	return "", invalidParameter("sort", "is none of "+strings.Join(orders, ", "))
}

func (a *API) tenantsUsage(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query, "limit", "cursor", "sort", "shard"); err != nil {
		return answer{}, err
	}
	by, err := readOrder(c, api.TenantUsageOrders)
	if err != nil {
		return answer{}, err
	}
	list := "usage of tenants by " + by
	p, err := readPage(list, c.query)
	if err != nil {
		return answer{}, err
	}
	var shard shardmap.ShardID
	if s := c.query.Get("shard"); s != "" {
		if shard, err = shardmap.ParseShardID(s); err != nil {
			return answer{}, invalidParameter("shard", "is not a shard's ID")
		}
	}
	found, next, err := a.Catalog.TopTenants(ctx, by, shard, c.sight(), p.forCatalog())
	if errors.Is(err, catalog.ErrConflict) {
		return answer{}, invalidParameter("cursor", "is no cursor of this list")
	}
	if err != nil {
		return answer{}, err
	}
	return ok(pageOf(list, found, next, tenantUsageDoc))
}

func (a *API) tenantUsage(ctx context.Context, c *call) (answer, error) {
	id, err := c.tenantID()
	if err != nil {
		return answer{}, err
	}
	t, err := a.Catalog.GetTenant(ctx, id)
	if err != nil {
		return answer{}, err
	}
	r, err := a.Catalog.GetTenantReading(ctx, id)
	if errors.Is(err, catalog.ErrNotFound) {
		r, err = catalog.TenantReading{Tenant: id, Shard: t.Placement.Shard}, nil
	}
	if err != nil {
		return answer{}, err
	}
	return ok(tenantUsageDoc(r))
}

// shardOrders are what shards can be sorted by, as [api.ShardUsageOrders] names them.
var shardOrders = map[string]func(r catalog.ShardReading) float64{
	"load":         func(r catalog.ShardReading) float64 { return r.Load },
	"bytes":        func(r catalog.ShardReading) float64 { return r.Bytes() },
	"connections":  func(r catalog.ShardReading) float64 { return r.Connections },
	"wal":          func(r catalog.ShardReading) float64 { return r.WAL },
	"transactions": func(r catalog.ShardReading) float64 { return r.Transactions },
	"rows":         func(r catalog.ShardReading) float64 { return r.RowsRead + r.RowsWritten },
	"requests":     func(r catalog.ShardReading) float64 { return r.Requests },
	"latency":      func(r catalog.ShardReading) float64 { return r.P95 },
	"lag":          func(r catalog.ShardReading) float64 { return float64(r.Lag) },
	"tenants":      func(r catalog.ShardReading) float64 { return float64(r.Tenants.Databases) },
}

func (a *API) shardsUsage(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query, "limit", "cursor", "sort"); err != nil {
		return answer{}, err
	}
	by, err := readOrder(c, api.ShardUsageOrders)
	if err != nil {
		return answer{}, err
	}
	list := "usage of shards by " + by
	p, err := readPage(list, c.query)
	if err != nil {
		return answer{}, err
	}
	value, id, _ := strings.Cut(p.after, " ")
	bound, malformed := strconv.ParseFloat(value, 64)
	if p.after != "" && (malformed != nil || id == "") {
		return answer{}, invalidParameter("cursor", "is no cursor of this list")
	}
	all, err := a.Catalog.ListShardReadings(ctx) // a fleet has at most thousands
	if err != nil {
		return answer{}, err
	}
	all = slices.DeleteFunc(all, func(r catalog.ShardReading) bool { return !c.seesShard(r.Shard) })
	of := shardOrders[by]
	order := func(v float64, id shardmap.ShardID, r catalog.ShardReading) int {
		return cmp.Or(cmp.Compare(of(r), v), cmp.Compare(id, r.Shard))
	}
	slices.SortFunc(all, func(x, y catalog.ShardReading) int { return order(of(x), x.Shard, y) })
	if p.after != "" {
		all = slices.DeleteFunc(all, func(r catalog.ShardReading) bool { return order(bound, shardmap.ShardID(id), r) >= 0 })
	}
	found, next := catalog.CutPage(p.forCatalog(), all, func(r catalog.ShardReading) string {
		return strconv.FormatFloat(of(r), 'g', -1, 64) + " " + string(r.Shard)
	})
	return ok(pageOf(list, found, next, shardUsageDoc))
}

func (a *API) shardUsage(ctx context.Context, c *call) (answer, error) {
	id, err := c.shardID()
	if err != nil {
		return answer{}, err
	}
	r, err := a.Catalog.GetShardReading(ctx, id)
	if err != nil {
		return answer{}, err
	}
	return ok(shardUsageDoc(r))
}

func useDoc(r catalog.Rates) api.Use {
	hit := 1.0
	if blocks := r.BlocksHit + r.BlocksRead; blocks > 0 {
		hit = r.BlocksHit / blocks
	}
	return api.Use{Load: r.Load, Connections: r.Connections, WALBytes: r.WAL, Transactions: r.Transactions, RowsRead: r.RowsRead, RowsWritten: r.RowsWritten,
		CacheHit: hit, Requests: r.Requests, Failed: r.Failed, LatencyMS: 1000 * r.Latency()}
}

func dayDoc(r catalog.DayRates) api.DayUse {
	return api.DayUse{Load: r.Load, Connections: r.Connections, WALBytes: r.WAL}
}

func peaksDoc(peaks []float32) []float32 {
	if peaks == nil {
		return []float32{}
	}
	return peaks
}

func tenantUsageDoc(r catalog.TenantReading) api.TenantUsage {
	d := api.TenantUsage{Tenant: r.Tenant, Shard: r.Shard, MeasuredSeconds: r.Seconds, Bytes: r.Bytes, Now: useDoc(r.Now), Day: dayDoc(r.Day),
		BusyHours: []int{}, Peaks: peaksDoc(r.Peaks)}
	if !r.MeasuredAt.IsZero() {
		at := r.MeasuredAt.UTC()
		d.MeasuredAt = &at
	}
	for h := range 24 {
		if r.Busy&(1<<h) != 0 {
			d.BusyHours = append(d.BusyHours, h)
		}
	}
	return d
}

func shardUsageDoc(r catalog.ShardReading) api.ShardUsage {
	d := api.ShardUsage{Shard: r.Shard, State: string(r.State), AgeSeconds: r.Age.Seconds(), Trouble: r.Trouble, Keeper: r.Keeper,
		Tenants: r.Tenants.Databases, Bytes: r.Bytes(), TenantBytes: r.Tenants.Bytes, Now: useDoc(r.Rates), Day: dayDoc(r.Day),
		Active: r.Active, Sessions: r.Sessions, MaxSessions: r.MaxSessions, Processors: r.Processors, LagBytes: r.Lag, Behind: r.Behind,
		MedianMS: 1000 * r.Median, P95MS: 1000 * r.P95, Peaks: peaksDoc(r.Peaks)}
	if r.MeasuredAt != nil {
		at := r.MeasuredAt.UTC()
		d.MeasuredAt = &at
	}
	return d
}
