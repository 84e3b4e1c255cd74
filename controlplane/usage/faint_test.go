package usage_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/usage"
)

// A fleet that does next to nothing is not moved around for it; one with a busy
// shard, or with capacities, is.
func TestFaintFiguresAreLeftOut(t *testing.T) {
	t.Parallel()
	fleet := func(load float64) *balance.Fleet {
		return &balance.Fleet{
			Shards: []balance.Shard{{ID: "s1", State: balance.Active, Other: balance.Vector{balance.Load: 0.01, balance.Bytes: 5}}, {ID: "s2", State: balance.Active}},
			Tenants: []balance.Tenant{
				{ID: "acme", Shard: "s1", Usage: balance.Vector{balance.Bytes: 7, balance.Connections: 3, balance.Load: load, balance.WAL: 1e5, balance.Databases: 1}},
				{ID: "rival", Shard: "s2", Usage: balance.Vector{balance.Bytes: 7, balance.Load: 0.01, balance.WAL: 10e6, balance.Databases: 1}},
			},
		}
	}
	figures := []catalog.ShardFigures{{MaxSessions: 200, Processors: 4}, {}}
	floor := balance.DefaultPolicy().Floor
	quiet := fleet(0.18)
	usage.Faint(quiet, figures, floor)
	require.Equal(t, balance.Vector{balance.Bytes: 7, balance.WAL: 1e5, balance.Databases: 1}, quiet.Tenants[0].Usage, "its log is worth it: s2 writes a lot")
	require.Equal(t, balance.Vector{balance.Bytes: 5}, quiet.Shards[0].Other)

	busy := fleet(0.2)
	usage.Faint(busy, figures, floor)
	require.InDelta(t, 0.2, busy.Tenants[0].Usage[balance.Load], 0)
	require.InDelta(t, 0.01, busy.Tenants[1].Usage[balance.Load], 0)

	bounded := fleet(0.1)
	bounded.Shards[1].Capacity[balance.Load] = 8
	usage.Faint(bounded, figures, floor)
	require.InDelta(t, 0.1, bounded.Tenants[0].Usage[balance.Load], 0, "whoever gives capacities has the planner's own floor")
	require.Zero(t, bounded.Tenants[0].Usage[balance.Connections])
}
