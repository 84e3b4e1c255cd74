package adminapi_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

// measures has shard s1 and these of its tenants measured, the first one as the one that does most.
func (f *fleet) measures(tenants ...shardmap.TenantID) {
	f.t.Helper()
	ctx := f.t.Context()
	mine, err := f.Store.KeepShardUsage(ctx, "s1", "w1", time.Hour)
	require.NoError(f.t, err)
	require.True(f.t, mine)
	peaks := make([]float32, 24)
	peaks[3] = -1
	require.NoError(f.t, f.Store.SaveShardReading(ctx, "s1", "w1", catalog.ShardFigures{
		Rates: catalog.Rates{Load: 1.5, Requests: 4, RequestSeconds: 2}, Tenants: catalog.Carried{Databases: len(tenants), Bytes: 5e6}, Other: catalog.Carried{Bytes: 1e6},
		Sessions: 7, MaxSessions: 100, Lag: 12, Behind: "standby", P95: 0.25, Peaks: peaks}, "", time.Hour))
	var readings []catalog.TenantReading
	for i, id := range tenants {
		readings = append(readings, catalog.TenantReading{Tenant: id, Bytes: int64(i), Busy: 1<<4 | 1<<23, Peaks: peaks, Seconds: 60,
			Now: catalog.Rates{Load: float64(len(tenants) - i), BlocksHit: 3, BlocksRead: 1, Requests: 2, RequestSeconds: 0.5}})
	}
	require.NoError(f.t, f.Store.SaveTenantReadings(ctx, "s1", "w1", readings))
}

// everyUsageVerb gives each of them its good answer.
func (f *fleet) everyUsageVerb() {
	f.t.Helper()
	var ids []shardmap.TenantID
	for i := range 3 {
		id := shardmap.TenantID(fmt.Sprintf("measured-%d", i))
		f.want(200, "POST", "/v1/tenants", `{"id":"`+string(id)+`","shard":"s1"}`)
		ids = append(ids, id)
	}
	f.measures(ids...)
	page := into[api.Page[api.TenantUsage]](f.t, f.want(200, "GET", "/v1/usage/tenants?limit=2&shard=s1", ""))
	require.Len(f.t, page.Items, 2)
	require.Equal(f.t, ids[0], page.Items[0].Tenant)
	page = into[api.Page[api.TenantUsage]](f.t, f.want(200, "GET", "/v1/usage/tenants?limit=2&shard=s1&cursor="+page.NextCursor, ""))
	require.Len(f.t, page.Items, 1)
	require.Equal(f.t, ids[2], page.Items[0].Tenant)
	require.Equal(f.t, ids[2], into[api.Page[api.TenantUsage]](f.t, f.want(200, "GET", "/v1/usage/tenants?sort=bytes", "")).Items[0].Tenant)

	one := into[api.TenantUsage](f.t, f.want(200, "GET", "/v1/tenants/measured-0/usage", ""))
	require.InDelta(f.t, 3, one.Now.Load, 1e-9)
	require.InDelta(f.t, 0.75, one.Now.CacheHit, 1e-9)
	require.InDelta(f.t, 250, one.Now.LatencyMS, 1e-9)
	require.Equal(f.t, []int{4, 23}, one.BusyHours)
	require.NotNil(f.t, one.MeasuredAt)

	shards := into[api.Page[api.ShardUsage]](f.t, f.want(200, "GET", "/v1/usage/shards?limit=1", ""))
	require.Len(f.t, shards.Items, 1)
	require.EqualValues(f.t, "s1", shards.Items[0].Shard)
	require.InDelta(f.t, 250, shards.Items[0].P95MS, 1e-9)
	shards = into[api.Page[api.ShardUsage]](f.t, f.want(200, "GET", "/v1/usage/shards?limit=1&cursor="+shards.NextCursor, ""))
	require.EqualValues(f.t, "s2", shards.Items[0].Shard)
	require.Nil(f.t, shards.Items[0].MeasuredAt)
	shard := into[api.ShardUsage](f.t, f.want(200, "GET", "/v1/shards/s1/usage", ""))
	require.Equal(f.t, "w1", shard.Keeper)
	require.InDelta(f.t, 6e6, shard.Bytes, 1e-9)
}

func TestUsage(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.everyUsageVerb()
	f.want(200, "POST", "/v1/tenants", `{"id":"stranger","shard":"s2"}`)
	stranger := into[api.TenantUsage](t, f.want(200, "GET", "/v1/tenants/stranger/usage", ""))
	require.Nil(t, stranger.MeasuredAt)
	require.EqualValues(t, "s2", stranger.Shard)
	for _, path := range []string{"/v1/tenants/nobody/usage", "/v1/shards/s9/usage"} {
		require.Equal(t, http.StatusNotFound, f.ask(adminapi.RoleViewer, "GET", path, "").StatusCode, path)
	}
	// The cursor of one order is none of another, nor is a made-up one.
	next := into[api.Page[api.TenantUsage]](t, f.want(200, "GET", "/v1/usage/tenants?limit=1", "")).NextCursor
	for _, path := range []string{
		"/v1/usage/tenants?sort=beauty", "/v1/usage/shards?sort=beauty", "/v1/usage/tenants?shard=S1", "/v1/usage/tenants?by=load",
		"/v1/usage/tenants?sort=bytes&cursor=" + next, "/v1/usage/shards?cursor=" + next, "/v1/usage/tenants?limit=0",
	} {
		require.Equal(t, http.StatusBadRequest, f.ask(adminapi.RoleViewer, "GET", path, "").StatusCode, path)
	}
	require.Equal(t, catalog.ReadingOrders, api.TenantUsageOrders)
}
