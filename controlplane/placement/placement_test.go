package placement_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/placement"
	"github.com/freehold-db/freehold/shardmap"
)

func TestTheFleetIsRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n, id := range []shardmap.TenantID{"a", "b", "gone", "purged"} {
		catalogtest.AddTenant(t, w.store, id, "s1", 100+n)
	}
	read := func() *placement.Snapshot {
		s, err := placement.Read(w.ctx(), w.store)
		require.NoError(t, err)
		return s
	}
	w.exec(`update shards set region = 'eu', labels = '{"disk": "nvme"}', max_databases = 80, state = 'cordoned' where id = 's1'`)
	w.exec(`insert into shard_capacities (shard, load) values ('s1', 8)`)
	w.exec(`insert into tenant_needs (tenant, apart, forbid, changed_by) values ('b', 'banks', '{"old": "yes"}', 'x')`)
	w.exec(`insert into tenant_usage (tenant, shard, bytes, load, day_load, busy) values ('a', 's1', 5e9, 0.5, 0.75, 3), ('gone', 's1', 7e9, 1, 0, 0)`)
	w.exec(`insert into shard_usage (shard, measured_at, figures) values ('s1', now(), '{"tenants": {"databases": 2, "bytes": 12e9, "load": 1.5}, "other": {"bytes": 1e9, "databases": 3}}')`)
	w.exec(`update tenants set deleted_at = now(), purge_after = now() where id in ('gone', 'purged')`)
	w.exec(`update placements set state = 'deleted', epoch = epoch + 1 where tenant in ('gone', 'purged')`)
	w.exec(`delete from databases where tenant = 'purged'`)
	w.exec(`update tenants set purged_at = now() where id = 'purged'`)

	s := read()
	require.Len(t, s.Fleet.Tenants, 2)
	a, b := s.Fleet.Tenants[0], s.Fleet.Tenants[1]
	require.Equal(t, balance.Vector{balance.Bytes: 5e9, balance.Load: 0.75, balance.Databases: 1}, a.Usage, "the more of now and a day")
	require.Equal(t, balance.Hours(3), a.Busy)
	require.Nil(t, a.Needs)
	require.Equal(t, &balance.Needs{Apart: "banks", Forbid: map[string]string{"old": "yes"}, Require: map[string]string{}}, b.Needs)
	require.InDelta(t, 6e9, b.Usage[balance.Bytes], 1, "an average one: it was never measured")
	s1 := s.Fleet.Shards[0]
	require.Equal(t, balance.Cordoned, s1.State)
	require.Equal(t, "eu", s1.Region)
	require.Equal(t, "nvme", s1.Labels["disk"])
	require.InDelta(t, 100, s1.Capacity[balance.Databases], 1e-9, "80 to the last, of which no headroom is kept free")
	require.InDelta(t, 8, s1.Capacity[balance.Load], 1e-9)
	require.InDelta(t, 8e9, s1.Other[balance.Bytes], 1, "with what a deleted tenant still takes")
	require.InDelta(t, 1, s1.Other[balance.Databases], 1e-9)

	// What comes and goes makes it no other fleet; a move does.
	digest := s.Fleet.Digest()
	catalogtest.AddReady(t, w.store, "s1", 1)
	w.exec(`update tenant_usage set bytes = 9e9`)
	require.Equal(t, digest, read().Fleet.Digest())
	before := time.Now().Add(-time.Minute)
	w.exec(`with d as (update databases set shard = 's2' where tenant = 'a') update placements set shard = 's2', epoch = epoch + 1 where tenant = 'a'`)
	w.exec(`update placements set state = 'suspended', epoch = epoch + 1 where tenant = 'b'`)
	s = read()
	require.NotEqual(t, digest, s.Fleet.Digest())
	require.EqualValues(t, "s2", s.Fleet.Tenants[0].Shard)
	require.True(t, s.Fleet.Tenants[0].Moved.After(before))
	require.True(t, s.Fleet.Tenants[1].Moved.IsZero(), "to be suspended is no move")
}
