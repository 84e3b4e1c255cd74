package move

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// traffic is wire clients of one tenant that keep the book of what was acknowledged.
type traffic struct {
	t      testing.TB
	db     string
	login  secret.Login
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	acked   map[uuid.UUID]bool
	unknown map[uuid.UUID]bool // sent, no answer: may be there or not
	errs    []error
	gap     time.Duration // longest time from one acknowledged write of a client to the next
	writes  atomic.Int64
	// tolerant clients reconnect after an error and go on.
	tolerant bool
}

const trafficSchema = `
CREATE TABLE book (id uuid PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY, who text NOT NULL);
CREATE TABLE sums (who text PRIMARY KEY, n bigint NOT NULL);
CREATE TABLE log (id uuid NOT NULL, who text);` // no key

// startTraffic lets clients write through the PgBouncers of the given shards.
func (w *world) startTraffic(db string, login secret.Login, every time.Duration, tolerant bool, via ...shardmap.ShardID) *traffic {
	tr := &traffic{t: w.t, db: db, login: login, acked: map[uuid.UUID]bool{}, unknown: map[uuid.UUID]bool{}, tolerant: tolerant}
	var ctx context.Context
	ctx, tr.cancel = context.WithCancel(context.Background())
	for i, on := range via {
		who := fmt.Sprintf("client-%d", i)
		tr.wg.Go(func() { tr.client(ctx, who, w.server(w.t, on), every) })
	}
	w.t.Cleanup(tr.cancel)
	return tr
}

func (tr *traffic) connect(ctx context.Context, s *pgtest.ShardServer) (*pgx.Conn, error) {
	cfg, err := s.Channel.Config(s.Host(), s.BouncerPort(), tr.db, tr.login)
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, cfg)
}

func (tr *traffic) client(ctx context.Context, who string, s *pgtest.ShardServer, every time.Duration) {
	var conn *pgx.Conn
	last := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	defer func() { closeConn(conn) }()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if conn == nil {
			var err error
			if conn, err = tr.connect(ctx, s); err != nil {
				tr.failed(ctx, err)
				conn = nil
				continue
			}
		}
		id := uuid.New()
		err := tr.write(context.Background(), conn, who, id) // never cut off by us: every outcome is known
		tr.mu.Lock()
		if err == nil {
			tr.acked[id] = true
			tr.gap = max(tr.gap, time.Since(last))
			last = time.Now()
			tr.writes.Add(1)
		} else {
			tr.unknown[id] = true
		}
		tr.mu.Unlock()
		if err != nil {
			tr.failed(ctx, err)
			closeConn(conn)
			conn = nil
		}
	}
}

func (tr *traffic) failed(ctx context.Context, err error) {
	if ctx.Err() == nil {
		tr.mu.Lock()
		tr.errs = append(tr.errs, err)
		tr.mu.Unlock()
	}
}

// write is one transaction in one round trip, as the data plane's are.
func (tr *traffic) write(ctx context.Context, conn *pgx.Conn, who string, id uuid.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	b := &pgx.Batch{}
	b.Queue("SELECT set_config('role', $1, true)", shard.RWRole(tr.db))
	b.Queue("INSERT INTO book (id, who) VALUES ($1, $2)", id, who)
	b.Queue("INSERT INTO log (id, who) VALUES ($1, $2)", id, who)
	b.Queue("INSERT INTO sums AS s VALUES ($1, 1) ON CONFLICT (who) DO UPDATE SET n = s.n + 1", who)
	return conn.SendBatch(ctx, b).Close()
}

// requireBalanced ends the traffic and checks the book against the database.
func (tr *traffic) requireBalanced(w *world, on shardmap.ShardID) {
	w.t.Helper()
	tr.cancel()
	tr.wg.Wait()
	if !tr.tolerant {
		require.Empty(w.t, tr.errs, "clients saw errors")
	}
	for _, table := range []string{"book", "log"} {
		rows, err := w.conn(on, tr.db).Query(w.t.Context(), "SELECT id, count(*) FROM public."+table+" GROUP BY id")
		require.NoError(w.t, err)
		there := map[uuid.UUID]int{}
		var id uuid.UUID
		var n int
		_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error { there[id] = n; return nil })
		require.NoError(w.t, err)
		lost, doubled, unexpected := 0, 0, 0
		for id := range tr.acked {
			if there[id] == 0 {
				lost++
			}
		}
		for id, n := range there {
			if n > 1 {
				doubled++
			}
			if !tr.acked[id] && !tr.unknown[id] {
				unexpected++
			}
		}
		require.Zero(w.t, lost, "acknowledged writes lost in %s", table)
		require.Zero(w.t, doubled, "writes doubled in %s", table)
		require.Zero(w.t, unexpected, "writes in %s that nobody made", table)
		require.NotEmpty(w.t, tr.acked)
	}
	var sum, count int64
	require.NoError(w.t, w.conn(on, tr.db).QueryRow(w.t.Context(), "SELECT (SELECT coalesce(sum(n), 0)::bigint FROM public.sums), (SELECT count(*) FROM public.book)").Scan(&sum, &count))
	require.Equal(w.t, count, sum, "the sums don't add up to the book")
}

// Clients at both PgBouncers write all the time, while their tenant goes there and back.
func TestClientsGoOnAcrossMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	db, login := w.tenant("busy", "a")
	w.asOwner("a", db, trafficSchema+"INSERT INTO customers (name) SELECT repeat(md5(i::text), 10) FROM generate_series(1, 30000) i")
	tr := w.startTraffic(db, login, 5*time.Millisecond, false, "a", "a", "a")
	rec := w.moved("busy", "b")
	require.Equal(t, Equal, rec.Verification.Copy)
	require.Equal(t, Equal, rec.Verification.Final)
	t.Logf("there: %d rows, %.1f MB/s, pause %v ms, attached %v ms, attempts %+v", rec.Rows, rec.CopyMBPerS, rec.PauseMS, rec.AttachedPauseMS, rec.Attempts)
	here := w.startTraffic(db, login, 5*time.Millisecond, false, "b", "b")
	rec = w.moved("busy", "a")
	require.Equal(t, Equal, rec.Verification.Final)
	t.Logf("back: pause %v ms, attached %v ms, attempts %+v", rec.PauseMS, rec.AttachedPauseMS, rec.Attempts)
	rec = w.moved("busy", "b")
	require.Equal(t, Equal, rec.Verification.Final)

	here.cancel()
	here.wg.Wait()
	tr.cancel()
	tr.wg.Wait()
	require.Empty(t, here.errs)
	for id := range here.acked {
		tr.acked[id] = true
	}
	for id := range here.unknown {
		tr.unknown[id] = true
	}
	tr.requireBalanced(w, w.requireServedOnce("busy", "a", "b"))
	t.Logf("%d writes acknowledged, longest gap of a client %v and %v", len(tr.acked), tr.gap, here.gap)
}
