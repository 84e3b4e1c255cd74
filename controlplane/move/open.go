package move

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// openUp opens the target right after the flip, with what the crew has ready.
// What fails here is done by the step open, from scratch.
func (s *Service) openUp(ctx context.Context, r *run, c *crew, k *critical) error {
	ctx, cancel := context.WithTimeout(ctx, cleanFor)
	defer cancel()
	if err := s.unfenceWith(ctx, r, c.dstGuard); err != nil {
		return err
	}
	if err := k.lap("unfenced"); err != nil {
		return err
	}
	placement := r.Data.From
	placement.Shard, placement.Epoch = r.Data.To, placement.Epoch+1
	// Both are hints to nodes that would otherwise find out by being refused.
	_ = s.publisher.Release(ctx, shardmap.Release{Tenant: r.Data.Tenant, ID: k.hold.ID, Placement: &placement})
	c.pause = time.Since(k.start)
	if err := k.lap("released"); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, gate := range c.gates {
		g.Go(func() error { return s.route(gctx, r, gate) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	c.attached = time.Since(k.start)
	if err := k.lap("routed"); err != nil {
		return err
	}
	_ = s.publisher.Flush(ctx, r.Data.Tenant) // the relay publishes it anyway
	c.opened = true
	return nil
}

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
		c.attempt.Outcome, c.attempt.HeldMS = "flipped", ms(c.attached)
		r.Data.Receipt.Attempts = append(r.Data.Receipt.Attempts, c.attempt)
		r.Data.Receipt.PauseMS, r.Data.Receipt.AttachedPauseMS = ms(c.pause), ms(c.attached)
	}
	if c == nil || !c.opened {
		if err := s.openAgain(ctx, r); err != nil {
			return err
		}
	}
	return r.SetReceipt(r.Data.Receipt)
}

func (s *Service) openAgain(ctx context.Context, r *run) error {
	if err := s.unfence(ctx, r, r.Data.To); err != nil {
		return err
	}
	_ = s.publisher.Flush(ctx, r.Data.Tenant) // the relay publishes it anyway
	shards, err := s.gateShards(ctx, r)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, on := range shards {
		g.Go(func() error { return s.routeAgain(gctx, r, on) })
	}
	return g.Wait()
}

// routeAgain is route without anything ready. A PgBouncer that can't be
// reached is waited for: when it comes back, its clients must not be sent to
// the old place.
func (s *Service) routeAgain(ctx context.Context, r *run, on shardmap.ShardID) error {
	console, err := s.fleet.Console(ctx, on)
	if err != nil {
		return operation.Wait(time.Second, "PgBouncer of "+string(on)+" to come back: "+err.Error())
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
