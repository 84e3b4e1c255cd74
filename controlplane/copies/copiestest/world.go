// Package copiestest has a control plane without its API over shards that tests
// share, for the tests of copies and erasures.
package copiestest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/copies"
	"github.com/freehold-db/freehold/controlplane/erase"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/publish"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/controlplane/worldtest"
	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/shardmap"
)

// Tester is who asks for everything.
var Tester = worldtest.Tester

// World is a catalog of the test's own over shards that tests share. Copies are in its Dir.
type World struct {
	*worldtest.World
	services
}

// services are what a replica has beside those of all worlds.
type services struct {
	Access *access.Service
	Copies *copies.Service
	Erase  *erase.Service
	Moves  *move.Service
}

// deaf is a bus that is away: no node hears of a move, so that the databases' fences alone keep them out.
type deaf struct{}

func (deaf) Flush(context.Context, shardmap.TenantID) error { return publish.ErrUnavailable }
func (deaf) Hold(context.Context, shardmap.Hold, time.Duration) ([]shardmap.HoldAck, int, error) {
	return nil, 0, publish.ErrUnavailable
}
func (deaf) Release(context.Context, shardmap.Release) (publish.Reports, error) {
	return nil, publish.ErrUnavailable
}

func (s *services) complete(b worldtest.Base) error {
	bin, err := pgserver.BinDir()
	if err != nil {
		return err
	}
	s.Access = access.New(b.Store, b.Engine, b.Fleet, b.Log)
	s.Copies = copies.New(b.Store, b.Engine, b.Fleet, b.Tenants, s.Access, b.Secrets, copies.Options{Dir: b.Dir, PGBinDir: bin, Logger: b.Log})
	s.Erase = erase.New(b.Store, b.Engine, b.Tenants, s.Copies, b.Secrets, b.Secrets, erase.Options{Logger: b.Log,
		Checkpoint: func(context.Context) (json.RawMessage, error) { return json.RawMessage(`{"size":7}`), nil }})
	s.Moves = move.New(b.Store, b.Engine, b.Fleet, deaf{}, move.Options{PGBinDir: bin, Logger: b.Log, SoakEvery: time.Second})
	return nil
}

// New makes a world with these shards, and a worker in it.
func New(t *testing.T, shards ...shardmap.ShardID) *World {
	t.Helper()
	w := &World{}
	w.World = worldtest.New(t, shardtest.Server, w.complete, shards...)
	return w
}

// Tenant makes a tenant as users do, and returns its database.
func (w *World) Tenant(id shardmap.TenantID, on shardmap.ShardID) string {
	w.T.Helper()
	return w.World.Tenant(id, on).Database
}

// Main is the TestMain of packages that use this one.
func Main(m *testing.M) { worldtest.Main(m, new(services).complete) }
