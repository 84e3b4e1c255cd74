package router_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/leaktest"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/router"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) {
	os.Exit(leaktest.Run(func() int { return pgtest.Run(m.Run) }))
}

// world answers the map's questions and keeps everybody's login.
type world struct {
	mu     sync.Mutex
	places map[shardmap.TenantID]shardmap.Placement
	shards map[shardmap.ShardID]shardmap.Shard
	logins map[string]secret.Login
	reads  int
	loads  int
	down   error
	sealed error // the secret store's
}

func newWorld() *world {
	return &world{
		places: map[shardmap.TenantID]shardmap.Placement{},
		shards: map[shardmap.ShardID]shardmap.Shard{},
		logins: map[string]secret.Login{},
	}
}

func (w *world) LoadPlacement(_ context.Context, t shardmap.TenantID, _ shardmap.Epoch) (shardmap.Placement, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loads++
	if w.down != nil {
		return shardmap.Placement{}, w.down
	}
	p, ok := w.places[t]
	if !ok {
		return p, shardmap.ErrUnknownTenant
	}
	return p, nil
}

func (w *world) LoadShard(_ context.Context, id shardmap.ShardID) (shardmap.Shard, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.shards[id]
	if !ok {
		return s, shardmap.ErrUnknownShard
	}
	return s, nil
}

func (w *world) Get(_ context.Context, path string) (secret.Login, int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	if w.sealed != nil {
		return secret.Login{}, 0, w.sealed
	}
	l, ok := w.logins[path]
	if !ok {
		return l, 0, secret.ErrNotFound
	}
	return l, 1, nil
}

func (w *world) Put(context.Context, string, secret.Login, int64) (int64, error) {
	return 0, errors.ErrUnsupported
}
func (w *world) Delete(context.Context, string) error { return errors.ErrUnsupported }

// settle gives a tenant a place, and the place a login.
func (w *world) settle(i int, shard shardmap.ShardID, epoch shardmap.Epoch) shardmap.Placement {
	p := shardmap.Placement{
		Tenant: shardmap.TenantID(fmt.Sprintf("tenant-%d", i)), Shard: shard,
		Database: fmt.Sprintf("t_%016x", i), Epoch: epoch, State: shardmap.Active,
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.places[p.Tenant] = p
	w.logins[secret.DatabaseAuth(p.Database)] = secret.Login{User: p.Database + "_auth_a", Password: "some password of the usual size"}
	if _, ok := w.shards[shard]; !ok {
		w.shards[shard] = shardmap.Shard{ID: shard, Host: "127.0.0.1", Port: 1, Version: 1}
	}
	return p
}

// move puts a tenant elsewhere, its login unchanged.
func (w *world) move(p shardmap.Placement, to shardmap.ShardID) shardmap.Placement {
	w.mu.Lock()
	defer w.mu.Unlock()
	p.Shard = to
	p.Epoch++
	w.places[p.Tenant] = p
	return p
}

// fake is a server in process that accepts everybody and answers every query
// with nothing. It counts who is connected.
type fake struct {
	mu      sync.Mutex
	open    map[string]int // by database
	total   int
	dials   int
	refuse  error
	row     []byte // the answer to a query; set it between queries
	started sync.WaitGroup
}

func newFake() *fake { return &fake{open: map[string]int{}} }

func (f *fake) dial(context.Context, string, string) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dials++
	if f.refuse != nil {
		return nil, f.refuse
	}
	client, server := net.Pipe()
	f.started.Go(func() { f.serve(server) })
	return client, nil
}

func (f *fake) count(database string, by int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[database] += by
	f.total += by
}

func (f *fake) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	b := pgproto3.NewBackend(c, c)
	m, err := b.ReceiveStartupMessage()
	if err != nil {
		return
	}
	start, ok := m.(*pgproto3.StartupMessage)
	if !ok {
		return // a cancel request
	}
	database := start.Parameters["database"]
	f.count(database, 1)
	defer f.count(database, -1)
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "user", Value: start.Parameters["user"]})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for b.Flush() == nil {
		m, err := b.Receive()
		if err != nil {
			return
		}
		switch m.(type) {
		case *pgproto3.Query:
			if f.row != nil {
				b.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("c")}}})
				b.Send(&pgproto3.DataRow{Values: [][]byte{f.row}})
			}
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 0")})
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		case *pgproto3.Terminate:
			return
		}
	}
}

func (f *fake) connected() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

// query is the smallest request.
func query(ctx context.Context, c *router.Conn) error {
	_, err := c.PG.Exec(ctx, "select 1").ReadAll()
	return err
}

// newRouter routes w's tenants over dial until the test ends.
func newRouter(t testing.TB, w *world, cfg router.Config, dial router.DialFunc) *router.Router {
	r := router.New(shardmap.NewMap(shardmap.MapConfig{}, w), w, cfg, router.WithDialer(dial))
	t.Cleanup(func() { require.NoError(t, r.Close(context.Background())) })
	return r
}

// fakeRouter routes w's tenants to f until the test ends.
func fakeRouter(t testing.TB, w *world, f *fake, cfg router.Config) (*router.Router, *shardmap.Map) {
	m := shardmap.NewMap(shardmap.MapConfig{}, w)
	r := router.New(m, w, cfg, router.WithDialer(f.dial))
	t.Cleanup(func() {
		require.NoError(t, r.Close(context.Background()))
		f.started.Wait()
		require.Zero(t, f.connected())
	})
	return r, m
}
