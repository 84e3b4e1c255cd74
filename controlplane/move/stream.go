package move

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgerrcode"

	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/sleep"
)

// stream has the target follow.
func (s *Service) stream(ctx context.Context, r *run) error {
	start := time.Now()
	if err := s.subscribe(ctx, r); err != nil {
		return err
	}
	r.Data.Receipt.phase("stream", start)
	return nil
}

// subscribeWithin bounds the wait for servers that are out of reach of us, or of each other.
const subscribeWithin = 5 * time.Minute

// subscribe tries until subscribeWithin is over: the slot is there, and a server that restarts is soon back.
func (s *Service) subscribe(ctx context.Context, r *run) error {
	for start, pause := time.Now(), 200*time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := s.subscribeOnce(ctx, r)
		away := err != nil && (outOfReach(err) || pg.Code(err) == pgerrcode.ConnectionFailure)
		if !away || ctx.Err() != nil || time.Since(start) > subscribeWithin {
			return err
		}
		r.Report(operation.Progress{Phase: "following changes", Waiting: "for the target to reach the source: " + err.Error()})
		if serr := sleep.For(ctx, jitter(pause)); serr != nil {
			return err
		}
	}
}

func (s *Service) subscribeOnce(ctx context.Context, r *run) error {
	conninfo, err := s.fleet.AdminConninfo(ctx, r.Data.To, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return err
	}
	dst, err := s.connect(ctx, r.Data.To, r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(dst)
	if err := shard.Admit(ctx, dst, r.Data.database()); err != nil {
		return err
	}
	return stream.Subscribe(ctx, dst, r.Data.Link, conninfo)
}

func (s *Service) undoStream(ctx context.Context, r *run) error {
	if err := s.stillAtSource(ctx, r); err != nil {
		return err
	}
	_, err := s.unlessGone(ctx, r, r.Data.To, func() error { return s.dropBack(ctx, r) })
	return errors.Join(err, s.unlink(ctx, r))
}

// unlink takes away what ties the two sides, at each whatever becomes of the
// other: a slot whose target is down would have the source keep its log for ever.
func (s *Service) unlink(ctx context.Context, r *run) error {
	_, err := s.unlessGone(ctx, r, r.Data.To, func() error { return s.dropSubscription(ctx, r) })
	return errors.Join(err, s.dropSource(ctx, r))
}

// dropSubscription leaves the slot alone. No database is no subscription.
func (s *Service) dropSubscription(ctx context.Context, r *run) error {
	dst, err := s.connect(ctx, r.Data.To, r.Data.database())
	if pg.Code(err) == pgerrcode.InvalidCatalogName {
		return nil
	}
	if err != nil {
		return err
	}
	defer closeConn(dst)
	return stream.Unsubscribe(ctx, dst, r.Data.Link)
}

// dropSource drops the slot, and the publication with what it changed.
func (s *Service) dropSource(ctx context.Context, r *run) error {
	src, err := s.connect(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(src)
	if err := stream.DropSlot(ctx, src, r.Data.Link); err != nil {
		return err
	}
	return patiently(ctx, func() error { return stream.Unpublish(ctx, src, r.Data.Link) })
}

// patiently tries again while a table is locked by the tenant, up to a minute.
func patiently(ctx context.Context, fn func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := fn()
		if !errors.Is(err, stream.ErrLocked) {
			return err
		}
		if serr := sleep.For(ctx, jitter(pause)); serr != nil {
			return err
		}
	}
}
