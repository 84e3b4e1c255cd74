package shard_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
)

// Logins hammer the database directly, each writing one numbered row per
// session. After Fence has returned, no row may appear any more.
func TestNoStatementRunsAfterTheFence(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	db := newName(t)
	login := f.Database(t, "a", db)
	conn, inside := admin(t, f, "a", "postgres"), admin(t, f, "a", db)
	quick, err := pg.QuickVerifier(login.Password) // so that they come as often as they can
	require.NoError(t, err)
	_, err = inside.Exec(ctx, fmt.Sprintf("CREATE TABLE public.hits (n bigint); GRANT INSERT ON public.hits TO %s; ALTER ROLE %s PASSWORD '%s'", shard.RWRole(db), pg.Ident(login.User), quick))
	require.NoError(t, err)

	var stop atomic.Bool
	var sessions, refused atomic.Int64
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			for !stop.Load() {
				c, err := direct(ctx, f, "a", db, login)
				if err != nil {
					refused.Add(1)
					continue
				}
				n := sessions.Add(1)
				for range 3 {
					if _, err := c.Exec(ctx, fmt.Sprintf("BEGIN; SET LOCAL ROLE %s; INSERT INTO public.hits VALUES (%d); COMMIT", shard.RWRole(db), n)); err != nil {
						break
					}
				}
				_ = c.Close(ctx)
			}
		})
	}
	defer func() { stop.Store(true); wg.Wait() }()

	count := func() (n int) {
		require.NoError(t, inside.QueryRow(ctx, "SELECT count(*) FROM public.hits").Scan(&n))
		return n
	}
	for round := range 15 {
		before := sessions.Load()
		require.NoError(t, shard.Unfence(ctx, conn, db))
		pgtest.Eventually(t, "sessions run", func() bool { return sessions.Load() > before+10 })
		start := time.Now()
		require.NoError(t, shard.Fence(ctx, conn, db))
		took := time.Since(start)
		hits := count()
		turned := refused.Load()
		pgtest.Eventually(t, "refusals", func() bool { return refused.Load() > turned+30 })
		require.Equal(t, hits, count(), "round %d: a row appeared after the fence", round)
		t.Logf("round %d: fenced in %s at %d rows", round, took.Round(100*time.Microsecond), hits)
	}
	fenced, err := shard.Fenced(ctx, conn, db)
	require.NoError(t, err)
	require.True(t, fenced)
	_, err = direct(ctx, f, "a", db, login)
	require.Equal(t, "53300", pg.Code(err))
}

// A session that has passed the look at the connection limit, but is not in
// pg_stat_activity yet, is not missed. post_auth_delay makes that instant long.
func TestFenceWaitsForSessionsThatAreStarting(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	db := newName(t)
	login := f.Database(t, "a", db)
	conn := admin(t, f, "a", "postgres")
	cfg, err := f.Channel.Config(f.Rows["a"].PostgresHost, f.Rows["a"].PostgresPort, db, login)
	require.NoError(t, err)
	cfg.RuntimeParams["post_auth_delay"] = "4"
	outcome := make(chan error, 1)
	fenced := make(chan struct{})
	go func() {
		c, err := pgx.ConnectConfig(ctx, cfg)
		if err == nil {
			<-fenced
			_, err = c.Exec(ctx, "SELECT 1")
			_ = c.Close(ctx)
		}
		outcome <- err
	}()
	pgtest.Eventually(t, "it is starting", func() (starting bool) {
		require.NoError(t, conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.objid
			WHERE l.locktype = 'object' AND d.datname = $1) AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1)`, db).Scan(&starting))
		return starting
	})
	require.NoError(t, shard.Fence(ctx, conn, db))
	close(fenced)
	require.Error(t, <-outcome, "it ran a statement after the fence")
}

func TestFenceEndsWhatIsUnderWayAndIsItsOwnRepetition(t *testing.T) {
	ctx := bounded(t)
	f := shardtest.New(t, sample, "a")
	db := newName(t)
	login := f.Database(t, "a", db)
	conn := admin(t, f, "a", "postgres")
	session, err := direct(ctx, f, "a", db, login)
	require.NoError(t, err)
	defer session.Close(ctx) //nolint:errcheck // ended by the fence
	done := make(chan error, 1)
	go func() { _, err := session.Exec(ctx, "SELECT pg_sleep(60)"); done <- err }()
	bystander := admin(t, f, "a", db) // a superuser stays

	require.NoError(t, shard.Fence(ctx, conn, db))
	require.Equal(t, "57P01", pg.Code(<-done))
	require.NoError(t, shard.Fence(ctx, conn, db))
	_, err = bystander.Exec(ctx, "SELECT 1")
	require.NoError(t, err)

	require.NoError(t, shard.Unfence(ctx, conn, db))
	require.NoError(t, shard.Unfence(ctx, conn, db))
	fenced, err := shard.Fenced(ctx, conn, db)
	require.NoError(t, err)
	require.False(t, fenced)

	missing := newName(t)
	require.Equal(t, "3D000", pg.Code(shard.Fence(ctx, conn, missing)))
	_, err = shard.Fenced(ctx, conn, missing)
	require.Equal(t, "3D000", pg.Code(err))
}

func TestFenceStopsWithItsContext(t *testing.T) {
	f := shardtest.New(t, sample, "a")
	db := newName(t)
	f.Database(t, "a", db)
	ctx, cancel := context.WithCancel(bounded(t))
	conn := admin(t, f, "a", "postgres")
	cancel()
	require.ErrorIs(t, shard.Fence(ctx, conn, db), context.Canceled)
}
