package placement

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

// MayMove tells whether a tenant may be moved to a shard: whether it is what the
// tenant needs, and has nobody, nor gets anybody, whom the tenant must keep apart
// from. It keeps the latter so until tx ends. Whether there is room is not asked.
// Errors: catalog.ErrConflict with what stands against it, catalog.ErrNotFound (no such shard).
func MayMove(ctx context.Context, store *catalog.Store, tx pgx.Tx, id shardmap.TenantID, to shardmap.ShardID) error {
	needs, err := store.GetNeeds(ctx, id)
	if err != nil {
		return err
	}
	if needs.Pinned {
		return fmt.Errorf("tenant %s is pinned to the shard that it is on (tenant-ops tenant needs): %w", id, catalog.ErrConflict)
	}
	g, err := store.PlacementGround(ctx, tx, catalog.GroundAsk{Tenant: id, Needs: needs, Fit: catalog.Fit{Shard: to}, Living: true})
	if err != nil {
		return err
	}
	row := g.Shards[slices.IndexFunc(g.Shards, func(f catalog.FleetShard) bool { return f.ID == to })] // or the ground was refused
	on := balance.Shard{ID: row.ID, Region: row.Region, Class: row.Class, Labels: row.Labels}
	b := balance.Needs(needs)
	if by, detail := b.Refuses(&on); by != "" {
		return fmt.Errorf("tenant %s may not be on shard %s: %s: %s (tenant-ops tenant needs): %w", id, to, by, detail, catalog.ErrConflict)
	}
	met := slices.ContainsFunc(g.Neighbours, func(n catalog.Neighbour) bool {
		return n.Shard == to && (n.Exclusive || n.Apart != "" && n.Apart == needs.Apart)
	})
	if met || slices.Contains(g.Inhabited, to) {
		return fmt.Errorf("shard %s has, or gets, a tenant that %s must keep apart from: %w", to, id, catalog.ErrConflict)
	}
	return nil
}
