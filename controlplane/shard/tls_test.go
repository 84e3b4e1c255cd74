package shard_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
)

// A shard that could not verify another is not registered, and gives no subscription.
func TestAShardNeedsTheRootsOfOthers(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	f := shardtest.NewSecure(t, "", "a")
	row, server := f.Rows["a"], shardtest.SecureServer(t, "a")
	_, err := f.Check(ctx, row, server.Admin, server.Console)
	require.NoError(t, err)
	_, err = f.AdminConninfo(ctx, "a", "a", "postgres")
	require.NoError(t, err)

	without := row
	without.PostgresTLSDir = ""
	_, err = f.Check(ctx, without, server.Admin, server.Console)
	require.ErrorIs(t, err, shard.ErrUnfit)
	require.ErrorIs(t, err, pg.ErrNoServerFiles)
	_, err = f.Among(shardtest.Rows{"a": without}).AdminConninfo(ctx, "a", "a", "postgres")
	require.ErrorIs(t, err, shard.ErrUnfit)

	elsewhere := row
	elsewhere.PostgresTLSDir = "/nonexistent"
	_, err = f.Check(ctx, elsewhere, server.Admin, server.Console)
	require.ErrorIs(t, err, shard.ErrUnfit)
	require.ErrorContains(t, err, "/nonexistent/ca.crt")
}
