package move

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgerrcode"

	"github.com/freehold-db/freehold/controlplane/move/stream"
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

func (s *Service) subscribe(ctx context.Context, r *run) error {
	conninfo, err := s.fleet.AdminConninfo(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return err
	}
	dst, err := s.connect(ctx, r.Data.To, r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(dst)
	return stream.Subscribe(ctx, dst, r.Data.Link, conninfo)
}

func (s *Service) undoStream(ctx context.Context, r *run) error {
	if err := s.stillAtSource(ctx, r); err != nil {
		return err
	}
	return errors.Join(s.dropBack(ctx, r), s.unlink(ctx, r))
}

// unlink takes away what ties the two sides, at each whatever becomes of the
// other: a slot whose target is down would have the source keep its log for ever.
func (s *Service) unlink(ctx context.Context, r *run) error {
	return errors.Join(s.dropSubscription(ctx, r), s.dropSource(ctx, r))
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
