package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/sleep"
	"github.com/freehold-db/freehold/shardmap"
)

// A move that soaks ends with its tenant served at the target, and the source,
// fenced as ever, following what is written there: a reverse is a move over a
// link that is there already. The link back is made at the target before
// anybody is held back, and used only after the flip, when the link that the
// move came over is gone: at no time does a change run in a circle.

// slotBackFor bounds the wait for transactions that were open at the target's
// server when the slot was asked for; then the cutover is begun anew.
const slotBackFor = 2 * time.Minute

// backName is the name of the publication, the slot and the subscription that
// lead from the operation's target to its source.
func backName(op *operation.Operation) string { return linkName(op) + "_r" }

// linkBack makes publication and slot at the target, unless they are there,
// and has the slot pass over what has arrived by now: as the database's worker,
// for one that woke up late would have it pass over what a client wrote.
func (s *Service) linkBack(ctx context.Context, r *run, c *crew) error {
	if r.Data.Back == "" {
		return nil
	}
	dst, err := s.connect(ctx, r.Data.To, r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(dst)
	atSource, err := s.remembered(ctx, r)
	if err != nil {
		return err
	}
	if err := r.Held(ctx); err != nil {
		return err
	}
	err = patiently(ctx, func() error {
		tables, err := survey.Tables(ctx, dst)
		if err != nil {
			return err
		}
		return stream.PublishBack(ctx, dst, r.Data.Back, tables, atSource)
	})
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, slotBackFor)
	defer cancel()
	progress := operation.Progress{Phase: "cutover: making the link back", Percent: 99.5}
	stop := s.whileWaiting(bounded, r, r.Data.To, progress, writersSQL)
	err = guarded(bounded, c.dstGuard, leaseOf(r), func(conn *pgx.Conn) error {
		if err := stream.EnsureSlot(bounded, conn, r.Data.Back); err != nil {
			return err
		}
		return stream.Advance(bounded, conn, r.Data.Back, "")
	})
	if who := stop(); err != nil && who != "" && bounded.Err() != nil {
		err = fmt.Errorf("the link back can't be made at %s, which waited %v for %s: %w", r.Data.To, slotBackFor, who, err)
	}
	if err != nil {
		return err
	}
	r.Report(operation.Progress{Phase: "cutover", Percent: 99.5})
	if r.Data.BackFingerprint, err = schema.Fingerprint(ctx, dst); err != nil {
		return err
	}
	return s.hit("move/soak/linked")
}

// remembered is what the tables' identities were at the source before the move
// changed them. The target of a reverse knows by itself: it was the source.
func (s *Service) remembered(ctx context.Context, r *run) (m stream.Remembered, err error) {
	if r.Data.Reverses != "" {
		return m, nil
	}
	src, err := s.connect(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return m, err
	}
	defer closeConn(src)
	return stream.Remember(ctx, src, r.Data.Link)
}

// dropBack takes away what linkBack made, wherever the worker before us died.
func (s *Service) dropBack(ctx context.Context, r *run) error {
	if r.Data.Back == "" {
		return nil
	}
	dst, err := s.connect(ctx, r.Data.To, r.Data.database())
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer closeConn(dst)
	if err := stream.DropSlot(ctx, dst, backName(r.Op)); err != nil {
		return err
	}
	return patiently(ctx, func() error { return stream.Unpublish(ctx, dst, backName(r.Op)) })
}

// soakWithin bounds the tries at having the old place follow. Meanwhile the
// slot keeps the log of the tenant's new home, and the tenant's next operation waits.
const soakWithin = 2 * time.Minute

// soak has the old place follow. If that can't be had, the move is one without a soak.
func (s *Service) soak(ctx context.Context, r *run) error {
	start := time.Now()
	if err := s.markReversed(ctx, r); err != nil {
		return err
	}
	if r.Data.Back == "" {
		return nil
	}
	err := s.followBack(ctx, r, start)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		s.opt.Logger.Warn("move: no soak: the tenant can't be taken back", "operation", r.Op.ID, "tenant", r.Data.Tenant, "error", err)
		r.Data.Receipt.note("there is no soak: " + err.Error())
		return errors.Join(s.dropOldSubscription(ctx, r), s.dropBack(ctx, r))
	}
	k, err := s.store.GetSoak(ctx, r.Op.ID)
	if err != nil {
		return err
	}
	until := k.Until.UTC()
	r.Data.Soaking, r.Data.Receipt.SoakUntil = true, &until
	r.Data.Receipt.phase("soak", start)
	return r.SetReceipt(r.Data.Receipt)
}

// followBack tries until soakWithin is over.
func (s *Service) followBack(ctx context.Context, r *run, start time.Time) error {
	if r.Data.Receipt.Verification.Final == Mismatch {
		return errors.New("source and target differ")
	}
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := s.followBackOnce(ctx, r)
		if err == nil || ctx.Err() != nil || errors.Is(err, stream.ErrNoSlot) || errors.Is(err, catalog.ErrConflict) || time.Since(start) > soakWithin {
			return err
		}
		r.Report(operation.Progress{Phase: "soak", Percent: 99.5, Waiting: "for the old place to follow: " + err.Error()})
		if err := sleep.For(ctx, jitter(pause)); err != nil {
			return err
		}
	}
}

// followBackOnce drops the link that the move came over, then has the old place
// subscribe to what was committed at the new one after the barrier. The
// publication at the old place stays: by the identities it gave rows are found there.
func (s *Service) followBackOnce(ctx context.Context, r *run) error {
	home, err := s.connect(ctx, r.Data.To, r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(home)
	old, err := s.connect(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(old)
	if err := stream.Unsubscribe(ctx, home, r.Data.Link); err != nil {
		return err
	}
	if err := stream.DropSlot(ctx, old, r.Data.Link); err != nil {
		return err
	}
	// A barrier that arrived at the new place after the cutover's, as that of a
	// comparison does, comes back from there: a second one of its name would end the link.
	if _, err := old.Exec(ctx, "DELETE FROM freehold.barrier"); err != nil {
		return fmt.Errorf("forget barriers: %w", err)
	}
	if err := s.hit("move/soak/unlinked"); err != nil {
		return err
	}
	if err := stream.Advance(ctx, home, r.Data.Back, r.Data.BackLSN); err != nil {
		return err
	}
	if err := s.hit("move/soak/advanced"); err != nil {
		return err
	}
	conninfo, err := s.fleet.AdminConninfo(ctx, r.Data.From.Shard, r.Data.To, r.Data.database())
	if err != nil {
		return err
	}
	if err := shard.Admit(ctx, old, r.Data.database()); err != nil {
		return err
	}
	if err := stream.Subscribe(ctx, old, r.Data.Back, conninfo); err != nil {
		return err
	}
	if err := s.hit("move/soak/subscribed"); err != nil {
		return err
	}
	return s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return s.store.BeginSoak(ctx, tx, catalog.Soak{Operation: r.Op.ID, Tenant: r.Data.Tenant, Database: r.Data.database(),
			Home: r.Data.To, Old: r.Data.From.Shard, Link: r.Data.Back, Fingerprint: r.Data.BackFingerprint}, r.Data.Soak)
	})
}

// dropOldSubscription is for a soak that came to nothing. An old place that is
// out of reach keeps a subscription that finds no slot, until it is dropped.
func (s *Service) dropOldSubscription(ctx context.Context, r *run) error {
	old, err := s.connect(ctx, r.Data.From.Shard, r.Data.database())
	if err == nil {
		defer closeConn(old)
		err = stream.Unsubscribe(ctx, old, r.Data.Back)
	}
	if err != nil && ctx.Err() == nil {
		s.opt.Logger.Warn("move: the old place's subscription stays for now", "operation", r.Op.ID, "shard", r.Data.From.Shard, "error", err)
		return nil
	}
	return err
}

// notSoaking refuses to move a tenant that has a way back: what would it lead to?
// Asked in the transaction that begins the move, it misses none that a move before it began.
func (s *Service) notSoaking(ctx context.Context, tx pgx.Tx, id shardmap.TenantID) error {
	k, err := s.store.LiveSoakTx(ctx, tx, id)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("tenant %s on %s can still be taken back to %s, where operation %s moved it from: %w", id, k.Home, k.Old, k.Operation, ErrSoaking)
}

// Errors a caller decides on; both are catalog.ErrConflict as well.
var (
	// ErrSoaking: the tenant has a way back; complete or reverse that move first.
	ErrSoaking = fmt.Errorf("the tenant soaks: %w", catalog.ErrConflict)
	// ErrNoSoak: the move does not soak, or not any more.
	ErrNoSoak = fmt.Errorf("there is no way back: %w", catalog.ErrConflict)
)

// atBarrier are the statements for the target when the stream ends at the
// barrier. With a link back they wait for that one's end (see stream.PublishBack).
func (d *Doc) atBarrier() []string {
	if d.Back != "" {
		return nil
	}
	return d.AtEnd
}

// isGone tells an error that says that there is no such database.
func isGone(err error) bool { return pg.Code(err) == "3D000" }
