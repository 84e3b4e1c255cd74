package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// clean takes away what the move needed, and retires the source: the
// inventory's reaper drops it when the grace is over. A source that differs
// from the target is kept.
func (s *Service) clean(ctx context.Context, r *run) error {
	start := time.Now()
	s.dismiss(r.Op.ID)
	if gone, err := s.sourceGone(ctx, r); err != nil || gone {
		return err
	}
	if _, err := s.unlessGone(ctx, r, r.Data.From.Shard, func() error { return s.freeDDL(ctx, r) }); err != nil {
		return err
	}
	if err := s.cleanTarget(ctx, r); err != nil {
		return err
	}
	var dropAfter *time.Time
	switch {
	case r.Data.Soaking:
		r.Data.Receipt.note(fmt.Sprintf("%s is fenced and kept in step until %s; until then the tenant can be taken back", r.Data.From.Shard, r.Data.Receipt.SoakUntil.Format(time.RFC3339)))
	case r.Data.Receipt.Verification.Final == Mismatch:
		r.Data.Receipt.note("the source is kept until somebody has looked at the difference and drops it")
	default:
		at := time.Now().Add(s.opt.Grace)
		dropAfter = &at
		r.Data.Receipt.note(fmt.Sprintf("the source on %s is fenced, and dropped after %s", r.Data.From.Shard, at.UTC().Format(time.RFC3339)))
	}
	if !r.Data.Soaking {
		if err := s.dropLinks(ctx, r); err != nil {
			return err
		}
	}
	err := s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.store.SetDatabaseState(ctx, tx, r.Data.From.Shard, r.Data.database(),
			[]catalog.DatabaseState{catalog.DatabaseRetired}, catalog.DatabaseRetired, dropAfter)
		return err
	})
	if err != nil {
		return err
	}
	r.Data.Receipt.phase("clean", start)
	r.Report(operation.Progress{Phase: "done", Percent: 100})
	return r.SetReceipt(r.Data.Receipt)
}

// sourceGone tells whether the source is dropped already: a worker before us
// has retired it, which comes last, and died; its grace has passed since.
func (s *Service) sourceGone(ctx context.Context, r *run) (bool, error) {
	db, err := s.store.GetDatabase(ctx, r.Data.From.Shard, r.Data.database())
	if errors.Is(err, catalog.ErrNotFound) || err == nil && db.State == catalog.DatabaseDropping {
		r.Data.Receipt.note(fmt.Sprintf("the source on %s is dropped", r.Data.From.Shard))
		return true, r.SetReceipt(r.Data.Receipt)
	}
	return false, err
}

// cleanTarget drops the subscription and the move's own tables and rows.
func (s *Service) cleanTarget(ctx context.Context, r *run) error {
	if err := s.dropSubscription(ctx, r); err != nil {
		return err
	}
	run := func(on shardmap.ShardID, sql string) error {
		return s.at(ctx, on, r, func(conn *pgx.Conn) error {
			_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
			return err
		})
	}
	if err := run(r.Data.To, dropped("freehold.move_begun, "+guardTable)+"; DELETE FROM freehold.barrier"); err != nil {
		return err
	}
	_, err := s.unlessGone(ctx, r, r.Data.From.Shard, func() error { return run(r.Data.From.Shard, dropped(guardTable)) })
	return err
}

// at runs fn in the tenant's database on a shard.
func (s *Service) at(ctx context.Context, on shardmap.ShardID, r *run, fn func(conn *pgx.Conn) error) error {
	conn, err := s.connect(ctx, on, r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(conn)
	return fn(conn)
}

// dropLinks drops the slot, and every publication of ours at both sides: one of
// the target's, if the tenant was taken back, still knows what identities its
// tables had before they left it.
func (s *Service) dropLinks(ctx context.Context, r *run) error {
	unpublish := func(conn *pgx.Conn) error {
		return patiently(ctx, func() error { return stream.UnpublishAll(ctx, conn, linkPrefix) })
	}
	_, err := s.unlessGone(ctx, r, r.Data.From.Shard, func() error {
		return s.at(ctx, r.Data.From.Shard, r, func(conn *pgx.Conn) error {
			if err := stream.DropSlot(ctx, conn, r.Data.Link); err != nil {
				return err
			}
			return unpublish(conn)
		})
	})
	if err != nil {
		return err
	}
	return s.at(ctx, r.Data.To, r, unpublish)
}

func (s *Service) checkClean(_ context.Context, r *run) (string, error) {
	return fmt.Sprintf("drops subscription, slot and publication, and keeps the fenced source on %s for %v", r.Data.From.Shard, s.opt.Grace), nil
}
