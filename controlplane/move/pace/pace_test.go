package pace

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// The rate asked for is kept to over any stretch, by many streams together.
func TestTheRateAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const asked = 10 << 20
		p := New()
		p.SetMax(asked)
		require.Empty(t, p.Waiting())
		begun := time.Now()
		done := make(chan error)
		for range 4 {
			go func() {
				var err error
				for range 100 {
					if e := p.Take(context.Background(), 256<<10); e != nil {
						err = e
					}
				}
				done <- err
			}()
		}
		time.Sleep(time.Second)
		require.Equal(t, "so as to copy no more than the 10 MB/s asked for", p.Waiting())
		for range 4 {
			require.NoError(t, <-done)
		}
		require.InDelta(t, 10, time.Since(begun).Seconds(), 0.5) // 100 MB
		require.NoError(t, p.Take(context.Background(), 100<<20))
		require.InDelta(t, 20, time.Since(begun).Seconds(), 0.5) // one row may be more than the limiter's burst
		p.SetMax(0)
		begun = time.Now()
		require.NoError(t, p.Take(context.Background(), 1<<30))
		require.Zero(t, time.Since(begun))
		time.Sleep(time.Minute)
		require.Empty(t, p.Waiting())
	})
}

// Under load the copy slows down to Least, no further, says why, and is let go again.
func TestLoadSlowsTheCopyDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New()
		ctx, stop := context.WithCancel(t.Context())
		var copied atomic.Int64
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for p.Take(ctx, 64<<10) == nil {
				copied.Add(64 << 10)
				time.Sleep(time.Millisecond) // 64 MB/s if let
			}
		}()
		step := func(n int, reason string) float64 {
			before := copied.Load()
			for range n {
				time.Sleep(500 * time.Millisecond)
				p.adapt(500*time.Millisecond, reason)
			}
			return float64(copied.Load()-before) / (float64(n) / 2)
		}
		require.Greater(t, step(4, ""), 60e6)
		step(10, "s1 is busy")
		require.InEpsilon(t, Least, step(10, "s1 is busy"), 0.1)
		require.Equal(t, "s1 is busy; the copy goes at 4.2 MB/s until that is better", p.Waiting())
		step(60, "")
		require.Greater(t, step(4, ""), 60e6)
		time.Sleep(5 * time.Second)
		require.Empty(t, p.Waiting())
		stop()
		<-ended
	})
}

func TestNextRate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Float64Range(Least, float64(rate.Inf)).Draw(t, "limit")
		observed := rapid.Float64Range(0, 1e10).Draw(t, "observed")
		slower, faster := next(limit, observed, true), next(limit, observed, false)
		if slower < Least || slower > max(Least, limit/2) {
			t.Fatalf("under load from %v to %v", limit, slower)
		}
		if faster < limit {
			t.Fatalf("without load from %v to %v", limit, faster)
		}
	})
}

func TestStrain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		load   Load
		bounds Bounds
		reason string
	}{
		{Load{Active: 8, Processors: 2, WAL: 0.5, Lag: 1 << 20}, Bounds{}, ""},
		{Load{Active: 9, Processors: 2}, Bounds{}, "9 sessions are active on s1 (at most 8)"},
		{Load{Active: 32}, Bounds{}, ""},
		{Load{Active: 33}, Bounds{}, "33 sessions are active on s1 (at most 32)"},
		{Load{Active: 9, Processors: 2}, Bounds{Active: 50}, ""},
		{Load{WAL: 0.95}, Bounds{}, "s1 has written 95 % of max_wal_size since its last checkpoint (at most 90)"},
		{Load{Lag: 300e6, Behind: "standby"}, Bounds{}, "standby, which follows s1, is 300 MB behind (at most 268)"},
		{Load{Lag: 300e6}, Bounds{Lag: 400e6}, ""},
	} {
		require.Equal(t, c.reason, c.bounds.Strain("s1", c.load))
	}
}

// follower streams a slot's changes and never says that it has them.
func follower(t *testing.T, dsn, slot string) {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), dsn+"&replication=database&options=-c%20wal_sender_timeout%3D0")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE_REPLICATION_SLOT "+slot+" LOGICAL pgoutput (SNAPSHOT 'nothing')").ReadAll()
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close(context.Background())
		admin, err := pgx.Connect(context.Background(), dsn)
		if err != nil {
			return
		}
		defer admin.Close(context.Background()) //nolint:errcheck // nothing is lost with it
		pgtest.Eventually(t, "the slot is dropped", func() bool {
			_, err := admin.Exec(context.Background(), "SELECT pg_drop_replication_slot('"+slot+"')")
			return err == nil
		})
	})
	conn.Frontend().Send(&pgproto3.Query{String: "START_REPLICATION SLOT " + slot + " LOGICAL 0/0 (proto_version '1', publication_names 'p')"})
	require.NoError(t, conn.Frontend().Flush())
	_, err = conn.ReceiveMessage(t.Context())
	require.NoError(t, err)
}

// A tenant's requests by way of a node are others' work: the node's sessions are
// named as the platform is, PgBouncer's behind them too. The platform's own are
// not. It is not parallel, so that nobody else is there.
func TestOthersAreThoseWhoAreServed(t *testing.T) {
	dsn := pgtest.Database(t)
	open := func(application string) *pgx.Conn {
		t.Helper()
		cfg, err := pgx.ParseConfig(dsn)
		require.NoError(t, err)
		cfg.RuntimeParams["application_name"] = application
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	own := open("freehold-admin")
	others := func() int {
		l, err := Read(t.Context(), own, "own", "freehold-move", 0)
		require.NoError(t, err)
		return l.Others
	}
	open("freehold-catalog")
	pgtest.Eventually(t, "nobody else is there", func() bool { return others() == 0 })
	node := open(pg.ApplicationName)
	pgtest.Eventually(t, "a request by way of a node is seen", func() bool {
		_, err := node.Exec(t.Context(), "SELECT 1")
		require.NoError(t, err)
		return others() == 1
	})
}

// What a real server shows, and that a copy waits for its slowest follower and nobody else's.
func TestAServersLoad(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(context.Background()) //nolint:errcheck // nothing is lost with it
	_, err = conn.Exec(t.Context(), "CREATE PUBLICATION p; CREATE TABLE t (v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	follower(t, dsn, "pace_slow")
	_, err = conn.Exec(t.Context(), "INSERT INTO t SELECT repeat(md5(i::text), 100) FROM generate_series(1, 1000) i")
	require.NoError(t, err)

	l, err := Read(t.Context(), conn, "own", "freehold-move", Processors(t.Context(), conn))
	require.NoError(t, err)
	require.Positive(t, l.Active) // we are
	require.Positive(t, l.Others) // we are none of the platform's
	require.Positive(t, l.Processors)
	require.Positive(t, l.WAL)
	require.Equal(t, "pace_slow", l.Behind)
	require.Greater(t, l.Lag, int64(3_000_000))
	l, err = Read(t.Context(), conn, "pace_slow", "freehold-move", 0)
	require.NoError(t, err)
	require.Zero(t, l.Lag, "a move does not wait for itself")

	p := New()
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		p.Watch(ctx, []Server{
			{"away", func(context.Context) (*pgx.Conn, error) { return nil, context.DeadlineExceeded }},
			{"s1", func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, dsn) }},
		}, "own", "freehold-move", Bounds{Lag: 1 << 20, Active: 1000})
	}()
	pgtest.Eventually(t, "the copy slows down and says why", func() bool {
		require.NoError(t, p.Take(t.Context(), 512<<10))
		return strings.HasPrefix(p.Waiting(), "pace_slow, which follows s1, is ")
	})
	stop()
	<-watched
}
