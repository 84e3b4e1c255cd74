package shard_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
)

// A database that is opened in the moment between the look at it and what
// follows does not come to stand ajar: nobody would open it again.
func TestWhatIsOpenedMeanwhileDoesNotStandAjar(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	db := newName(t)
	login := f.Database(t, "a", db)
	conn := admin(t, f, "a", "postgres")
	require.NoError(t, shard.Fence(ctx, conn, db))
	require.NoError(t, shard.Admit(ctx, conn, db))
	_, err := direct(ctx, f, "a", db, login)
	require.Error(t, err)
	require.NoError(t, shard.Unfence(ctx, conn, db))

	require.NoError(t, shard.LeaveAjar(ctx, conn, db))
	fenced, err := shard.Fenced(ctx, conn, db)
	require.NoError(t, err)
	require.False(t, fenced)
	c, err := direct(ctx, f, "a", db, login)
	require.NoError(t, err)
	require.NoError(t, c.Close(ctx))
}
