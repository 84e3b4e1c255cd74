package move

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/controlplane/move/protocol"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// Release is a hint to nodes, which would otherwise find out by being refused or by themselves.
func (st *stage) Release(ctx context.Context, side protocol.Side) {
	if st.hold.ID == "" {
		return // nobody was asked to hold
	}
	d := &st.r.Data
	release := shardmap.Release{Tenant: d.Tenant, ID: st.hold.ID}
	if side == protocol.Target {
		placement := d.From
		placement.Shard, placement.Epoch = d.To, placement.Epoch+1
		release.Placement, release.Follow = &placement, st.c.led
	}
	st.c.reports, _ = st.s.publisher.Release(ctx, release)
	if side == protocol.Target {
		st.c.pause = time.Since(st.start)
	}
}

// reportsFor is how long nodes are given to say what their requests saw.
const reportsFor = 500 * time.Millisecond

// hear notes what nodes say that their requests saw of the attempt. Nobody is held meanwhile.
func (c *crew) hear(ctx context.Context) {
	if c.reports == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reportsFor)
	defer cancel()
	for _, r := range c.reports(ctx, c.attempt.Nodes) {
		c.attempt.Clients = append(c.attempt.Clients, NodeHold{Node: r.Node, Held: r.Held, LongestMS: ms(r.Longest)})
	}
	c.reports = nil
	slices.SortFunc(c.attempt.Clients, func(a, b NodeHold) int { return strings.Compare(a.Node, b.Node) })
}

// routeFor bounds what nodes wait for before they are released: the step after
// the cutover has all the time for it.
const routeFor = time.Second

// Route has the clients of every PgBouncer follow to the target.
func (st *stage) Route(ctx context.Context) error {
	if st.c == nil {
		return st.s.routesAgain(ctx, st.r)
	}
	ctx, cancel := context.WithTimeout(ctx, routeFor)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	follow := false // those at the source's PgBouncer
	for _, gate := range st.c.gates {
		follow = follow || gate.on == st.r.Data.From.Shard && gate.routes != nil
		g.Go(func() error { return st.s.route(gctx, st.r, gate) })
	}
	err := g.Wait()
	st.c.led, st.c.attached = follow && err == nil, time.Since(st.start)
	return err
}

// Publish spares nodes the time until the relay publishes it.
func (st *stage) Publish(ctx context.Context) { _ = st.s.publisher.Flush(ctx, st.r.Data.Tenant) }

// route has one PgBouncer's clients follow to the target.
func (s *Service) route(ctx context.Context, r *run, g *gate) error {
	if g.routes != nil {
		if err := g.routes.Set(ctx, r.Data.database(), r.Data.To); err != nil {
			return err
		}
	}
	return g.console.Resume(ctx, r.Data.database())
}

// open sees to it that the target is served, and that clients at every
// PgBouncer follow: at once if the cutover did it, else from scratch.
func (s *Service) open(ctx context.Context, r *run) error {
	c := s.keeps(r)
	if c == nil {
		r.Data.Receipt.note("the worker ended inside the cutover: the pause was not measured to its end")
	} else {
		c.hear(ctx)
		c.attempt.Outcome, c.attempt.HeldMS = "flipped", ms(c.attached)
		for _, n := range c.attempt.Clients {
			r.Data.Receipt.ClientPauseMS = max(r.Data.Receipt.ClientPauseMS, n.LongestMS)
		}
		r.Data.Receipt.Attempts = append(r.Data.Receipt.Attempts, c.attempt)
		r.Data.Receipt.PauseMS, r.Data.Receipt.AttachedPauseMS = ms(c.pause), ms(c.attached)
	}
	if c == nil || !c.opened {
		if err := protocol.Open(ctx, s.stage(r)); err != nil {
			return err
		}
	}
	return r.SetReceipt(r.Data.Receipt)
}

// routesAgain is Route without anything ready.
func (s *Service) routesAgain(ctx context.Context, r *run) error {
	shards, err := s.gateShards(ctx, r)
	if err != nil {
		return err
	}
	failed := make([]error, len(shards))
	var all sync.WaitGroup
	for i, on := range shards {
		all.Go(func() { failed[i] = s.routeAgain(ctx, r, on) })
	}
	all.Wait()
	for i, on := range shards {
		if _, err := s.unlessGone(ctx, r, on, func() error { return failed[i] }); err != nil {
			return err
		}
	}
	return nil
}

// routeAgain is route without anything ready. A PgBouncer that can't be reached
// is waited for (see unlessGone): when it comes back, its clients are not to be
// sent to the old place, where the fence would refuse them.
func (s *Service) routeAgain(ctx context.Context, r *run, on shardmap.ShardID) error {
	console, err := s.fleet.Console(ctx, on)
	if err != nil {
		return err
	}
	g := &gate{on: on, console: console}
	defer g.close()
	known, err := console.Databases(ctx)
	if err != nil {
		return err
	}
	if _, there := known[r.Data.database()]; !there && on != r.Data.From.Shard {
		return nil
	}
	if g.routes, err = s.fleet.Routes(ctx, on); err != nil && !errors.Is(err, shard.ErrNoRoutes) {
		return err
	}
	return s.route(ctx, r, g)
}

// keptFor is how long a crew waits for the step that needs it. If that runs in
// another process, the target's snapshot must not be held for ever.
const keptFor = 2 * time.Minute

// keep holds on to a crew for the steps after the cutover in this process.
func (s *Service) keep(r *run, c *crew) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.Op.ID
	c.expiry = time.AfterFunc(keptFor, func() { s.dismiss(id) })
	s.kept[id] = c
}

// keeps is the crew of the operation's cutover; nil if another process made it.
func (s *Service) keeps(r *run) *crew {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[r.Op.ID]
}

// take is keeps for the last who needs the crew, and has all the time for it: it closes the crew.
func (s *Service) take(id string) *crew {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.kept[id]
	delete(s.kept, id)
	if c != nil {
		c.expiry.Stop()
	}
	return c
}

// dismiss lets the crew go.
func (s *Service) dismiss(id string) {
	if c := s.take(id); c != nil {
		c.close()
	}
}
