package dev

import (
	"context"
	"fmt"

	"github.com/freehold-db/freehold/shardmap"
)

// AddShard adds a shard to the running fleet, and returns when it takes tenants.
// The fleet has it from then on, as one that was started with it. After an error
// it may be there in part; the next start of the fleet completes it.
func (f *Fleet) AddShard(ctx context.Context) (shardmap.ShardID, error) {
	name, err := f.state.grow()
	if err != nil {
		return "", err
	}
	id := shardmap.ShardID(name)
	u, err := f.newShard(ctx, id)
	if err != nil {
		return "", fmt.Errorf("add shard %s: %w", id, err)
	}
	f.addShard(u)
	if err := f.startAll(ctx, []string{u.postgres.name, u.bouncer.name}); err != nil {
		return "", fmt.Errorf("add shard %s: %w", id, err)
	}
	if err := f.register(ctx, u); err != nil {
		return "", err
	}
	return id, f.writeInfo()
}

// addShard makes a shard one of the fleet's.
func (f *Fleet) addShard(u *shardUnit) {
	f.add(u.postgres.name, u.postgres)
	f.add(u.bouncer.name, u.bouncer)
	f.parts.Lock()
	defer f.parts.Unlock()
	f.shards = append(f.shards, u)
}
