package rebalance

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/shardmap"
)

func bounded(on shardmap.ShardID, bytes float64) Edit {
	return Edit{Shards: map[shardmap.ShardID]balance.Vector{on: {balance.Bytes: bytes}}}
}

// An edit is thought through without a lock: one that another came before is thought through again.
func TestEditsThatOvertakeEachOtherAreBothMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1", "s2")
	w.add("s1", 2)
	first, err := w.consider(t.Context(), bounded("s1", 1e12))
	require.NoError(t, err)
	require.Len(t, first.Changes, 1)

	_, err = w.Apply(t.Context(), bounded("s2", 2e12), ann)
	require.NoError(t, err)
	_, err = w.settleEdit(t.Context(), bounded("s1", 1e12), first, ann)
	require.ErrorIs(t, err, errOvertaken)
	done, err := w.Apply(t.Context(), bounded("s1", 1e12), ann)
	require.NoError(t, err)
	require.EqualValues(t, 3, done.Stored.Version)
	wanted, err := w.Policy(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[shardmap.ShardID]balance.Vector{"s1": {balance.Bytes: 1e12}, "s2": {balance.Bytes: 2e12}}, wanted.Shards)

	// A shard that came meanwhile counts too.
	first, err = w.consider(t.Context(), bounded("s1", 3e12))
	require.NoError(t, err)
	catalogtest.AddShard(t, w.store, "s3")
	_, err = w.settleEdit(t.Context(), bounded("s1", 3e12), first, ann)
	require.ErrorIs(t, err, errOvertaken)
}

// What only tells what an edit comes to waits for nobody, and keeps nobody waiting.
func TestDryRunsTakeNoLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, "s1")
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.store.LockPlacementPolicy(ctx, tx)
		require.NoError(t, err)
		e := bounded("s1", 1e12)
		e.DryRun = true
		done, err := w.Apply(ctx, e, ann)
		require.NoError(t, err)
		require.Len(t, done.Changes, 1)
		return err
	})
}
