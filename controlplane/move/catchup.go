package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/protocol"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/sleep"
)

const (
	// closeEnough is the lag from which on barriers are sent to see how long they take.
	closeEnough = 1 << 20
	// stuckFor is how long the stream may stand still while changes fail to be
	// applied, and patientFor while none does: one large transaction may take long.
	stuckFor, patientFor = time.Minute, 10 * time.Minute
)

// errSchemaChanged: what was copied is not what the tenant has now.
var errSchemaChanged = protocol.Final(errors.New("the tenant's schema changed during the move"))

// catchUp waits until the target is close behind, and copies again if the
// tenant's schema changed, which the stream does not carry.
func (s *Service) catchUp(ctx context.Context, r *run) error {
	start := time.Now()
	if err := s.insisting(ctx, r, func() error { return s.catchUpOnce(ctx, r) }); err != nil {
		return err
	}
	r.Data.Receipt.phase("catch-up", start)
	return r.SetReceipt(r.Data.Receipt)
}

// insisting repeats the copy, a bounded number of times, when fn finds that the schema has changed or the slot is gone.
// What was begun is on record: whoever takes over in the middle has half a copy, or one that nothing follows.
func (s *Service) insisting(ctx context.Context, r *run, fn func() error) error {
	for {
		if r.Data.Again == "" {
			err := fn()
			if !errors.Is(err, errSchemaChanged) && !errors.Is(err, stream.ErrNoSlot) {
				return err
			}
			if r.Data.Reverses != "" {
				return cantTakeBack(err)
			}
			if r.Data.Copies >= maxCopies {
				return operation.Permanent(fmt.Errorf("%w, %d times; move when no migration is under way", err, r.Data.Copies))
			}
			r.Data.Receipt.note("copied again: " + err.Error())
			r.Data.Again = err.Error()
			if err := r.Save(); err != nil {
				return err
			}
		}
		if err := s.copyAgain(ctx, r); err != nil {
			return err
		}
	}
}

func cantTakeBack(reason error) error {
	return operation.Permanent(fmt.Errorf("the tenant can't be taken back, only moved: %w", reason))
}

func (s *Service) copyAgain(ctx context.Context, r *run) error {
	s.opt.Logger.Info("move: copying again", "operation", r.Op.ID, "tenant", r.Data.Tenant, "reason", r.Data.Again)
	r.Report(operation.Progress{Phase: "copying again", Waiting: r.Data.Again})
	if err := s.copy(ctx, r); err != nil {
		return err
	}
	if err := s.hit("move/copied-again"); err != nil {
		return err
	}
	if err := s.subscribe(ctx, r); err != nil {
		return err
	}
	r.Data.Again = ""
	return r.Save()
}

func (s *Service) catchUpOnce(ctx context.Context, r *run) error {
	src, err := s.connect(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(src)
	dst, err := s.connect(ctx, r.Data.To, r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(dst)
	if err := s.closeIn(ctx, r, src, dst); err != nil {
		return err
	}
	for quick := 0; quick < 2; {
		if err := s.sameSchema(ctx, r, src); err != nil {
			return err
		}
		took, err := probe(ctx, src, dst, r.Data.Link, 5*time.Second)
		if err != nil {
			return err
		}
		if took <= r.Data.MaxPause/4 {
			quick++
			continue
		}
		quick = 0
		r.Report(operation.Progress{Phase: "catching up", Percent: 99, Waiting: fmt.Sprintf("for changes to arrive within %v; now they take %v", r.Data.MaxPause/4, took.Round(time.Millisecond))})
		if err := sleep.For(ctx, jitter(200*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// closeIn waits until the lag is small.
func (s *Service) closeIn(ctx context.Context, r *run, src, dst *pgx.Conn) error {
	var least, furthest int64 = -1, -1
	moved := time.Now()
	begun, first := time.Now(), int64(0)
	for {
		written, err := stream.Written(ctx, src)
		if err != nil {
			return err
		}
		lag, ok, err := stream.Lag(ctx, src, r.Data.Link)
		if err != nil {
			return err
		}
		if ok && lag <= closeEnough {
			return nil
		}
		if ok && (least < 0 || lag < least) {
			if least < 0 {
				first = lag
			}
			least = lag
		}
		if at := written - lag; ok && at > furthest { // it gets on, though the tenant may write faster
			furthest, moved = at, time.Now()
		}
		p := operation.Progress{Phase: "catching up", BytesDone: first - lag, BytesTotal: first, Waiting: fmt.Sprintf("%.1f MB of changes to apply", float64(lag)/1e6)}
		if first > 0 {
			p.Percent = 100 * float64(first-least) / float64(first)
			p.Rate = float64(first-lag) / time.Since(begun).Seconds()
		}
		r.Report(p)
		if err := s.sameSchema(ctx, r, src); err != nil {
			return err
		}
		if idle := time.Since(moved); idle > stuckFor {
			n, err := stream.ApplyErrors(ctx, dst, r.Data.Link)
			if err != nil {
				return err
			}
			if n > 0 || idle > patientFor {
				return fmt.Errorf("changes are not being applied at the target: %d bytes behind for %v (%d errors while applying; see the log of the target's Postgres)", lag, idle.Round(time.Second), n)
			}
		}
		if err := sleep.For(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func (s *Service) sameSchema(ctx context.Context, r *run, src *pgx.Conn) error {
	now, err := schema.Fingerprint(ctx, src)
	if err != nil {
		return err
	}
	if now != r.Data.Fingerprint {
		return errSchemaChanged
	}
	return nil
}

// probe sends a barrier through the link and times it. One that takes longer
// than within is given up. Errors: stream.ErrNoSlot, when none will ever arrive.
func probe(ctx context.Context, src, dst *pgx.Conn, link string, within time.Duration) (time.Duration, error) {
	start, token := time.Now(), uuid.NewString()
	if _, err := src.Exec(ctx, stream.BarrierSQL, token); err != nil {
		return 0, fmt.Errorf("write barrier: %w", err)
	}
	for {
		there, err := stream.Seen(ctx, dst, token)
		if err != nil {
			return 0, err
		}
		if took := time.Since(start); there || took > within {
			if !there {
				_, _, err = stream.Lag(ctx, src, link)
			}
			return took, err
		}
		if err := sleep.For(ctx, time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// refresh fills the target's materialized views anew if the source's were
// refreshed since the last time; state is what is compared.
func (s *Service) refresh(ctx context.Context, r *run, views []survey.Named) error {
	if len(views) == 0 {
		return nil
	}
	conn, err := s.connectPlain(ctx, r.Data.To, r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(conn)
	// Functions in a view's query may lean on the search_path of sessions of this database, and policies bind its owner there, too.
	if _, err := conn.Exec(ctx, `SET search_path = "$user", public; SET row_security = on`, pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	for i, v := range views {
		r.Report(operation.Progress{Phase: fmt.Sprintf("refreshing materialized view %d of %d", i+1, len(views)), Percent: 99})
		if _, err := conn.Exec(ctx, "REFRESH MATERIALIZED VIEW "+v.Name, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("refresh %s at the target: %w", v.Name, err)
		}
	}
	return nil
}
