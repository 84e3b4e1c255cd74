// Package chaos kills every part of a fleet while a tenant moves under
// traffic, and holds the outcome against the client's book: nothing lost,
// nothing doubled, served at exactly one place, the operation over in time.
package chaos

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/ledger"
	"github.com/freehold-db/freehold/shardmap"
	"github.com/freehold-db/freehold/test/fleet"
)

func TestMain(m *testing.M) {
	if _, err := fleet.BuildBinary(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	fleet.Remove()
	os.Exit(code)
}

// settleFor is how long an operation may take to its end after the killed part
// is back, on a machine that is busy: it is a few seconds elsewhere.
const settleFor = 90 * time.Second

// traffic drives tenants at a steady rate until stop is called, which audits
// every tenant's database and what the API shows.
type traffic struct {
	f      *fleet.Fleet
	client *ledger.Client
	cancel context.CancelFunc
	done   chan struct{}
}

func drive(t *testing.T, f *fleet.Fleet, rate float64, tenants ...string) *traffic {
	t.Helper()
	cfg := ledger.Config{Nodes: f.Info.DataplaneURLs}
	for _, id := range tenants {
		cfg.Tenants = append(cfg.Tenants, ledger.Tenant{ID: shardmap.TenantID(id), Token: f.Token(t, id, "editor"), Rate: rate})
	}
	c, err := ledger.New(cfg)
	require.NoError(t, err)
	require.NoError(t, c.Open(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	tr := &traffic{f: f, client: c, cancel: cancel, done: make(chan struct{})}
	go func() { defer close(tr.done); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-tr.done })
	return tr
}

// stop ends the traffic and requires that the book and the databases agree.
// Requests may have failed with a clear error while a part was dead; what was
// acknowledged must be there once, and nobody may have seen another's row.
func (tr *traffic) stop(t *testing.T) ledger.Receipt {
	t.Helper()
	tr.cancel()
	<-tr.done
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	r, err := tr.client.Audit(ctx, ledger.Postgres(func(ctx context.Context, id shardmap.TenantID) (*pgx.Conn, error) {
		return tr.f.TenantPostgres(ctx, string(id))
	}))
	require.NoError(t, err)
	t.Logf("%d requests, %d acknowledged writes, %d failed, %d unknown, longest gaps %v", r.Requests, r.Acknowledged, r.Failed, r.Unknown, gaps(r))
	for _, place := range []ledger.Tally{r.Databases, r.API} {
		require.Zero(t, place.Lost, "acknowledged writes lost")
		require.Zero(t, place.Doubled, "writes doubled")
		require.Zero(t, place.Ghosts, "refused writes done all the same")
		require.Zero(t, place.Foreign, "rows of another tenant")
		require.Positive(t, place.Checked)
	}
	require.Zero(t, r.ReadMissing, "reads missed an acknowledged row")
	require.Zero(t, r.ReadForeign, "reads saw another tenant's row")
	for _, fail := range r.Failures {
		// 429: so many wait for what is dead, or for a busy machine, that more are turned away.
		require.Contains(t, []int{0, 429, 503, 504}, fail.Status, "a fault must end in a clear error: %+v", fail)
	}
	return r
}

func gaps(r ledger.Receipt) map[string]string {
	m := map[string]string{}
	for _, t := range r.Tenants {
		m[t.Tenant] = t.LongestGap.String()
	}
	return m
}

// servedOnce requires that exactly the shard which the catalog names takes the
// tenant's logins, and that a finished move left nothing that pins or copies.
func servedOnce(t *testing.T, f *fleet.Fleet, tenant string, shards ...string) string {
	t.Helper()
	place, err := f.Admin.Placement(t.Context(), tenant)
	require.NoError(t, err)
	for _, s := range shards {
		conn := f.Postgres(t, s, "postgres")
		var open int // 0 is the fence, and so it is if no login has CONNECT; -2 is what Postgres gives a database that it is dropping, and lets nobody in either
		require.NoError(t, conn.QueryRow(t.Context(),
			"SELECT count(*) FROM pg_database d WHERE datname = $1 AND datconnlimit NOT IN (0, -2) AND datallowconn AND EXISTS (SELECT FROM pg_roles r WHERE r.rolname ~ ('^' || $1 || '_auth_[ab]$') AND has_database_privilege(r.oid, d.oid, 'CONNECT'))", place.Database).Scan(&open))
		if s == string(place.Shard) {
			require.Equal(t, 1, open, "%s is not open at %s, where the catalog says it is", tenant, s)
		} else {
			require.Equal(t, 0, open, "%s is open at %s, too", tenant, s)
		}
		var left []string
		require.NoError(t, conn.QueryRow(t.Context(), `
			SELECT array_agg(n) FROM (
			  SELECT 'slot ' || slot_name AS n FROM pg_replication_slots WHERE database = $1
			  UNION ALL SELECT 'subscription ' || subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = $1) x`,
			place.Database).Scan(&left))
		require.Empty(t, left, "left behind at %s", s)
	}
	var pubs int
	require.NoError(t, f.Postgres(t, string(place.Shard), place.Database).QueryRow(t.Context(), "SELECT count(*) FROM pg_publication").Scan(&pubs))
	require.Zero(t, pubs, "publications left behind at %s", place.Shard)
	return string(place.Shard)
}
