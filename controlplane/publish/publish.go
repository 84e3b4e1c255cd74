// Package publish carries placements and shards from the catalog to the
// data-plane nodes over NATS, and asks nodes to hold a tenant's requests
// during a cutover. Everything there is a copy; losing all of it loses nothing.
//
// Import law: of this module, publish imports shardmap, internal packages and controlplane/catalog only.
package publish

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

// ErrUnavailable: NATS can't be reached now. Nothing depends on it for truth; go on without.
var ErrUnavailable = errors.New("nats is unavailable")

var errTODO = errors.New("not written yet")

// Options of a publisher. Zero values mean the default in brackets.
type Options struct {
	Replicas       int           // of the KV buckets [1]
	ReconcileEvery time.Duration // how often catalog and buckets are compared in full [1 min]
	Logger         *slog.Logger  // [slog.Default()]
}

// Publisher is one replica's. Any number may run at once.
type Publisher struct{}

// New makes a publisher on nc, which should be made with RetryOnFailedConnect
// and unlimited reconnects. The caller closes nc.
func New(store *catalog.Store, nc *nats.Conn, opt Options) *Publisher { return &Publisher{} }

// Run relays until ctx ends, then returns nil. NATS or the catalog being away is waited out.
func (p *Publisher) Run(ctx context.Context) error { return errTODO }

// Flush publishes the tenant's committed placement now, without waiting for
// the relay; used right after a flip. Errors: ErrUnavailable, catalog.ErrNotFound.
func (p *Publisher) Flush(ctx context.Context, tenant shardmap.TenantID) error { return errTODO }

// Hold asks the nodes alive to hold the tenant's requests and collects their
// answers until all have answered or wait is over. expected is how many nodes
// are alive; all of them drained only if acks has that many with Drained set.
// Errors: ErrUnavailable, at once when NATS is away (then nothing is held, or
// not for sure): the cutover may go on without.
func (p *Publisher) Hold(ctx context.Context, h shardmap.Hold, wait time.Duration) (acks []shardmap.HoldAck, expected int, err error) {
	return nil, 0, errTODO
}

// Release ends a hold at all nodes, with the new placement if there is one.
// Errors: ErrUnavailable; nodes then end the hold by themselves.
func (p *Publisher) Release(ctx context.Context, r shardmap.Release) error { return errTODO }
