package publish

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/catalog"
	wire "github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

// topic is one kind of thing that is carried from the catalog to a bucket.
type topic struct {
	name    string // in the outbox
	bucket  string
	version func(value []byte) int64 // 0 for a value that makes no sense
	// get reads the newest state of one key. Errors: catalog.ErrNotFound.
	get func(ctx context.Context, store *catalog.Store, key string) (item, error)
	// list reads a page of all keys.
	list func(ctx context.Context, store *catalog.Store, p catalog.Page) ([]item, string, error)
	// strict: keys that the catalog does not have are taken away.
	strict bool
}

// topics are in the order in which they are published: a node that reads a
// placement finds its shard, and what it finds of access belongs to tenants it can know.
var topics = []*topic{&shardTopic, &placementTopic, &accessTopic}

var shardTopic = topic{
	name: "shard", bucket: shardmap.BucketShards,
	version: func(value []byte) int64 {
		var s shardmap.Shard
		if json.Unmarshal(value, &s) != nil || s.Host == "" {
			return 0
		}
		return s.Version
	},
	get: func(ctx context.Context, store *catalog.Store, key string) (item, error) {
		s, err := store.GetShard(ctx, shardmap.ShardID(key))
		if err != nil {
			return item{}, err
		}
		return shardItem(s)
	},
	list: func(ctx context.Context, store *catalog.Store, _ catalog.Page) ([]item, string, error) {
		shards, err := store.ListShards(ctx)
		if err != nil {
			return nil, "", err
		}
		items, err := itemsOf(shards, func(s catalog.ShardUsage) (item, error) { return shardItem(s.Shard) })
		if err != nil {
			return nil, "", err
		}
		removed, err := store.RemovedShards(ctx)
		if err != nil {
			return nil, "", err
		}
		gone, err := itemsOf(removed, shardItem)
		return append(items, gone...), "", err
	},
}

var placementTopic = topic{
	name: "placement", bucket: shardmap.BucketPlacements,
	version: func(value []byte) int64 {
		var p shardmap.Placement
		if json.Unmarshal(value, &p) != nil || p.Validate() != nil {
			return 0
		}
		return int64(p.Epoch) //nolint:gosec // one too great for it can't be ours
	},
	get: func(ctx context.Context, store *catalog.Store, key string) (item, error) {
		p, err := store.GetPlacement(ctx, shardmap.TenantID(key))
		if err != nil {
			return item{}, err
		}
		return placementItem(p)
	},
	list: func(ctx context.Context, store *catalog.Store, p catalog.Page) ([]item, string, error) {
		placements, next, err := store.ListPlacements(ctx, p)
		if err != nil {
			return nil, "", err
		}
		items, err := itemsOf(placements, placementItem)
		return items, next, err
	},
}

// The fleet's document comes on a page of its own after all the tenants': a
// bucket without it is not filled yet, and what is not in it may be on its way.
var accessTopic = topic{
	name: access.Topic, bucket: wire.Bucket,
	version: func(value []byte) int64 {
		var v struct{ Version int64 }
		if json.Unmarshal(value, &v) != nil {
			return 0
		}
		return v.Version
	},
	get: func(ctx context.Context, store *catalog.Store, key string) (item, error) {
		if key == wire.FleetKey {
			return fleetItem(ctx, store)
		}
		t, err := access.Document(ctx, store, shardmap.TenantID(key))
		if err != nil {
			return item{}, err
		}
		return accessItem(t)
	},
	list: func(ctx context.Context, store *catalog.Store, p catalog.Page) ([]item, string, error) {
		if p.After == wire.FleetKey {
			f, err := fleetItem(ctx, store)
			return []item{f}, "", err
		}
		documents, next, err := access.Documents(ctx, store, p)
		if err != nil {
			return nil, "", err
		}
		if next == "" {
			next = wire.FleetKey
		}
		items, err := itemsOf(documents, accessItem)
		return items, next, err
	},
	strict: true,
}

func shardItem(s catalog.Shard) (item, error) {
	i, err := newItem(string(s.ID), s.Version, shardmap.Shard{ID: s.ID, Host: s.BouncerHost, Port: s.BouncerPort, Version: s.Version})
	i.empty = s.State == catalog.ShardRemoved
	return i, err
}

func placementItem(p shardmap.Placement) (item, error) {
	return newItem(string(p.Tenant), int64(p.Epoch), p) //nolint:gosec // the catalog's epoch is a bigint
}

func accessItem(t wire.Tenant) (item, error) {
	i, err := newItem(string(t.Tenant), t.Version, t)
	i.empty = !access.Own(t)
	return i, err
}

func fleetItem(ctx context.Context, store *catalog.Store) (item, error) {
	f, err := access.Fleet(ctx, store)
	if err != nil {
		return item{}, err
	}
	return newItem(wire.FleetKey, f.Version, f)
}

func newItem(key string, version int64, document any) (item, error) {
	value, err := json.Marshal(document)
	if err != nil {
		return item{}, fmt.Errorf("document of %s: %w", key, err)
	}
	return item{key: key, version: version, value: value}, nil
}

func itemsOf[T any](rows []T, toItem func(T) (item, error)) ([]item, error) {
	items := make([]item, 0, len(rows))
	for _, row := range rows {
		i, err := toItem(row)
		if err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	return items, nil
}
