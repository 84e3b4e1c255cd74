package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/controlplane"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/test/chaos/history"
	"github.com/freehold-db/freehold/test/chaos/network"
	"github.com/freehold-db/freehold/test/fleet"
)

const (
	byREST = "REST"
	byWire = "wire"
)

// prepare brings up a fleet every cable of which can be cut.
func prepare(t *testing.T, seed uint64, shardCount int, p parts) *storm {
	s := &storm{t: t, out: *outFlag, report: &report{Seed: seed, Kinds: map[string]*kindReport{}, Died: map[string]int{}}}
	dir := pgtest.TempDir(t)
	if s.out == "" {
		s.out = filepath.Join(dir, "out")
	}
	require.NoError(t, os.MkdirAll(s.out, 0o750))
	var err error
	s.diary, err = os.Create(filepath.Join(s.out, "diary.log"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.diary.Close()) })
	s.load = &load{began: time.Now(), pause: 40 * time.Millisecond, seed: seed}
	full, err := newDisk(t, dir, p.filled)
	if err != nil {
		t.Logf("SKIPPED: no disk is made full: %v", err)
	}
	s.net = network.New(func() map[string]int { return s.f.Fleet.Info().PIDs })
	t.Cleanup(s.net.Close)
	f, stop, err := fleet.Up(dev.Options{Shards: shardCount, Nodes: 2, ControlPlanes: 2, Migrations: "schema",
		ControlPlane: s.inFrontOfControlPlane, DataPlane: s.inFrontOfNode, Shard: s.inFrontOfShard}, fleet.Binary(t), dir)
	require.NoError(t, err)
	s.f = f
	t.Cleanup(func() {
		if t.Failed() {
			f.LogTails(t)
		}
		require.NoError(t, stop())
	})
	s.mover = &mover{began: s.load.began, open: f.TenantPostgres, busy: map[string]bool{}, revoked: map[string]int{}, ends: map[string]int{}, errors: map[string]string{}}
	s.hands = hands{f, s.net, full, s.mover}
	for _, u := range f.Info.AdminURLs {
		c, err := client.New(u, f.Info.AdminToken)
		require.NoError(t, err)
		t.Cleanup(c.Close)
		s.mover.admins = append(s.mover.admins, c)
	}
	for _, shard := range f.Info.Shards {
		s.mover.shards = append(s.mover.shards, string(shard.ID))
	}
	return s
}

func (s *storm) inFrontOfControlPlane(c *controlplane.Config) {
	c.CatalogDSN = s.front("postgres-catalog", c.CatalogDSN)
	c.AuditDSN = s.front("postgres-catalog", c.AuditDSN)
	c.NATSURL = s.front("nats", c.NATSURL)
	c.DeleteGrace = time.Second // clones are many
}

func (s *storm) inFrontOfNode(c *dataplane.Config) {
	c.NATSURL = s.front("nats", c.NATSURL)
	c.ControlURL = s.inFrontOfReplicas(c.ControlURL)
}

func (s *storm) inFrontOfShard(shard *api.AddShard) error {
	for part, e := range map[string]*api.Endpoint{"postgres-" + shard.ID: &shard.Postgres, "bouncer-" + shard.ID: &shard.Bouncer} {
		address, err := s.net.Front(part, net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))))
		if err != nil {
			return err
		}
		at, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			return err
		}
		e.Host, e.Port = at.IP.String(), uint16(at.Port) //nolint:gosec // a port
	}
	return nil
}

// front puts a URL's server behind a front.
func (s *storm) front(part, raw string) string {
	u, err := url.Parse(raw)
	require.NoError(s.t, err)
	u.Host, err = s.net.Front(part, u.Host)
	require.NoError(s.t, err)
	return u.String()
}

func (s *storm) inFrontOfReplicas(list string) (fronts string) {
	for i, u := range strings.Split(list, ",") {
		name := "controlplane"
		if i > 0 {
			fronts += ","
			name += "-" + strconv.Itoa(i+1)
		}
		fronts += s.front(name, u)
	}
	return fronts
}

// ballast is how many rows of half a kilobyte make a tenant's copy take a moment.
const ballast = 20_000

// connect makes the tenants, what is in them, and the lanes to them.
func (s *storm) connect(tenants []string) {
	ctx := s.t.Context()
	applyPolicy(ctx, s.t, s.f, "{max_moves: 4, max_moves_per_shard: 2, cooldown: 1s, floor: {databases: 10%}}", len(s.mover.shards), 12)
	for i, tenant := range tenants {
		s.f.Create(s.t, tenant, s.mover.shards[i%len(s.mover.shards)])
		conn, err := s.f.TenantPostgres(ctx, tenant)
		require.NoError(s.t, err)
		_, err = conn.Exec(ctx, fmt.Sprintf(`INSERT INTO public.registers SELECT n, 0, '%[1]s' FROM generate_series(1, %[2]d) n;
			INSERT INTO public.accounts SELECT n, 0, '%[1]s' FROM generate_series(1, %[3]d) n;
			INSERT INTO public.ballast SELECT repeat(md5(n::text), 15) FROM generate_series(1, %[4]d) n`, tenant, maxRegisters, accounts, ballast))
		require.NoError(s.t, err)
		require.NoError(s.t, conn.Close(ctx))
		turns := new(atomic.Int64)
		for _, how := range []string{byREST, byWire} {
			s.lanes = append(s.lanes, &lane{tenant: tenant, how: how, turns: turns})
		}
	}
}

// way makes a client's own way to its tenant.
func (s *storm) way(l *lane) way {
	if l.how == byREST {
		r := rest{http: &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext}},
			turn: new(atomic.Int64), token: s.f.Token(s.t, l.tenant, "editor")}
		s.t.Cleanup(r.http.CloseIdleConnections)
		for i, u := range s.f.Info.DataplaneURLs {
			r.nodes = append(r.nodes, s.front(fmt.Sprintf("dataplane-%d", i+1), u))
		}
		return r
	}
	a := &addresses{tenant: l.tenant, mover: s.mover}
	require.NoError(s.t, a.enter(s.t.Context()))
	return &wire{address: a.now}
}

// addresses finds the PgBouncer in front of a tenant, or remembers where it was.
type addresses struct {
	tenant string
	mover  *mover
	mu     sync.Mutex
	login  api.Access
	after  int // revocations
	last   api.Endpoint
}

// enter has a login given to the client.
func (a *addresses) enter(ctx context.Context) error {
	return a.mover.admins.ask(ctx, func(ctx context.Context, c *client.Client) error {
		login, err := c.GrantAccess(ctx, a.tenant, api.GrantAccess{As: "rw", TTLSeconds: 8 * 3600}, "")
		if err == nil {
			a.login = login
		}
		return err
	})
}

func (a *addresses) now(ctx context.Context) (*pgx.ConnConfig, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := a.mover.revocations(a.tenant); n > a.after {
		if err := a.enter(ctx); err != nil {
			return nil, err
		}
		a.after = n
	}
	err := a.mover.admins.ask(ctx, func(ctx context.Context, c *client.Client) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		at, err := c.Placement(ctx, a.tenant)
		if err != nil {
			return err
		}
		shard, err := c.ShardAddress(ctx, string(at.Shard))
		a.last = api.Endpoint{Host: shard.Host, Port: shard.Port}
		return err
	})
	if err != nil && a.last.Host == "" {
		return nil, err
	}
	cfg, err := pgx.ParseConfig("sslmode=disable connect_timeout=5")
	if err != nil {
		return nil, err
	}
	cfg.Host, cfg.Port, cfg.Fallbacks = a.last.Host, a.last.Port, nil
	cfg.User, cfg.Password, cfg.Database = a.login.User, a.login.Password, a.login.Database
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // as PgBouncer's transaction pooling wants it
	return cfg, nil
}

// look reads everything of a tenant at the place that the catalog names, as of one moment.
func (s *storm) look(ctx context.Context, tenant string) (found history.Found, reads []history.Op, err error) {
	conn, err := s.f.TenantPostgres(ctx, tenant)
	if err != nil {
		return found, nil, err
	}
	defer conn.Close(ctx) //nolint:errcheck // it only read
	call := time.Since(s.load.began)
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return found, nil, err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // it only read
	rows, err := tx.Query(ctx, "SELECT id, value, tenant FROM public.registers ORDER BY id")
	if err != nil {
		return found, nil, err
	}
	registers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		return found, nil, err
	}
	if len(registers) != maxRegisters {
		s.report.wrong("%s has %d registers, not %d", tenant, len(registers), maxRegisters)
	}
	for _, r := range registers {
		if r.Tenant != tenant {
			s.report.Crossed++
		}
		reads = append(reads, history.Op{Register: history.Register{Tenant: tenant, ID: r.ID}, Kind: history.Read, Found: r.Value,
			Call: call, Return: time.Since(s.load.began), By: "the last look"})
	}
	found = history.Found{Tenant: tenant, Balances: map[int64]int64{}}
	if rows, err = tx.Query(ctx, "SELECT id, tenant, account, amount FROM public.entries"); err != nil {
		return found, nil, err
	}
	if found.Entries, err = pgx.CollectRows(rows, pgx.RowToStructByPos[history.Entry]); err != nil {
		return found, nil, err
	}
	if rows, err = tx.Query(ctx, "SELECT id, balance FROM public.accounts"); err != nil {
		return found, nil, err
	}
	var id, balance int64
	_, err = pgx.ForEachRow(rows, []any{&id, &balance}, func() error { found.Balances[id] = balance; return nil })
	return found, reads, err
}

// servedOnce waits until exactly the shard that the catalog names takes the
// tenant's logins, and nothing is left that pins or copies: what was cleaned
// while something was down may be cleaned again a little later.
func (s *storm) servedOnce(ctx context.Context, tenant string) error {
	ctx, cancel := context.WithTimeout(ctx, servedFor)
	defer cancel()
	for {
		err := s.strays(ctx, tenant)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (s *storm) strays(ctx context.Context, tenant string) error {
	place, err := s.mover.admins.placement(ctx, tenant)
	if err != nil {
		return err
	}
	var wrong error
	for _, shard := range s.f.Info.Shards {
		conn, err := pgx.Connect(ctx, shard.PostgresDSN)
		if err != nil {
			return err
		}
		var open bool
		var left []string
		err = conn.QueryRow(ctx, `SELECT
			EXISTS (SELECT FROM pg_database d WHERE datname = $1 AND datconnlimit NOT IN (0, -2) AND datallowconn AND EXISTS (SELECT FROM pg_roles r WHERE r.rolname ~ ('^' || $1 || '_auth_[ab]$') AND has_database_privilege(r.oid, d.oid, 'CONNECT'))),
			ARRAY (SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = $1
			  UNION ALL SELECT 'subscription ' || subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = $1)`,
			place.Database).Scan(&open, &left)
		if err = errors.Join(err, conn.Close(ctx)); err != nil {
			return err
		}
		if open != (shard.ID == place.Shard) {
			wrong = errors.Join(wrong, fmt.Errorf("%s: open at %s: %v; it lives at %s", tenant, shard.ID, open, place.Shard))
		}
		if len(left) > 0 {
			wrong = errors.Join(wrong, fmt.Errorf("%s: left behind at %s: %v", tenant, shard.ID, left))
		}
	}
	return wrong
}
