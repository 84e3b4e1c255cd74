package move

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/sleep"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	// maxAttempts bounds the tries of one cutover that hold anybody back.
	maxAttempts = 25
	// cleanFor bounds clean-up that must happen whatever became of the step's context.
	cleanFor = 15 * time.Second
	// quietFor is how long one look for a quiet moment lasts.
	quietFor = 20 * time.Second
)

// cutover flips the placement: the point of no return. An attempt that can't
// keep the pause budget is taken back whole, and made again later.
func (s *Service) cutover(ctx context.Context, r *run) error {
	start := time.Now()
	// A worker before us may have died with everybody held back.
	err := s.reopen(ctx, r, "")
	if errors.Is(err, errFlipped) {
		return nil // the commit's answer was lost, not the commit
	}
	if err != nil {
		return err
	}
	if err := s.insisting(ctx, r, func() error { return s.attempts(ctx, r) }); err != nil {
		return err
	}
	r.Data.Receipt.phase("cutover", start)
	return nil
}

func (s *Service) attempts(ctx context.Context, r *run) error {
	for n, pause := len(r.Data.Receipt.Attempts), 250*time.Millisecond; ; {
		held, err := s.attempt(ctx, r)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if stop(err) {
			return err
		}
		if held {
			n++
		}
		if n >= maxAttempts {
			return operation.Permanent(fmt.Errorf("gave up after %d attempts, each taken back whole; the last: %w", n, err))
		}
		wait := jitter(pause)
		pause = min(2*pause, 10*time.Second)
		s.opt.Logger.Info("move: cutover attempt given up", "operation", r.Op.ID, "tenant", r.Data.Tenant, "attempt", n, "reason", err, "next_in", wait)
		r.Report(operation.Progress{Phase: "cutover", Percent: 99.5, Waiting: fmt.Sprintf("attempt %d was given up, the next is in %v: %v", n, wait.Round(time.Millisecond), err)})
		if err := sleep.For(ctx, wait); err != nil {
			return err
		}
	}
}

// stop tells errors that another attempt can't mend.
func stop(err error) bool {
	return errors.Is(err, errSchemaChanged) || errors.Is(err, operation.ErrLeaseLost) || errors.Is(err, catalog.ErrConflict) ||
		errors.Is(err, errFlipped) || errors.Is(err, errUndecided)
}

// errUndecided: whether the flip was committed could not be found out, and so
// nothing may be opened.
var errUndecided = errors.New("the outcome of the flip is unknown")

// attempt is one try. held tells whether anybody was held back by it.
func (s *Service) attempt(ctx context.Context, r *run) (held bool, err error) {
	c, err := s.muster(ctx, r)
	if err != nil {
		return false, err
	}
	kept := false
	defer func() {
		if !kept {
			c.close()
		}
	}()
	if err := s.prelude(ctx, r, c); err != nil {
		return false, err
	}
	c.attempt = Attempt{At: time.Now().UTC()}
	k := &critical{s: s, r: r, c: c, hold: shardmap.Hold{Tenant: r.Data.Tenant, Epoch: r.Data.From.Epoch,
		ID: uuid.NewString(), For: r.Data.MaxPause + flipFor}}
	err = k.run(ctx)
	if err != nil {
		var flipped bool
		if flipped, err = s.giveUp(ctx, r, k, err); !flipped {
			return true, err
		}
	}
	// From here on there is no way back, whoever asks for it.
	ctx = context.WithoutCancel(ctx)
	kept = true
	_ = k.lap("after-flip") // an error here is for tests; a kill needs no answer
	if err := s.openUp(ctx, r, c, k); err != nil {
		s.opt.Logger.Warn("move: opening the target is left to the next step", "operation", r.Op.ID, "tenant", r.Data.Tenant, "error", err)
	}
	s.keep(r, c)
	return true, nil
}

// giveUp takes an attempt back. If the flip may have been committed it asks
// the catalog, for as long as it takes: nothing is opened on a guess.
func (s *Service) giveUp(ctx context.Context, r *run, k *critical, reason error) (flipped bool, err error) {
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanFor)
	defer cancel()
	err = s.reopen(clean, r, k.hold.ID)
	for pause := 20 * time.Millisecond; err != nil && !errors.Is(err, errFlipped) && !errors.Is(err, operation.ErrLeaseLost) && clean.Err() == nil; pause = min(2*pause, time.Second) {
		if sleep.For(clean, jitter(pause)) == nil {
			err = s.reopen(clean, r, k.hold.ID)
		}
	}
	if errors.Is(err, errFlipped) {
		err = r.Held(clean) // else a later worker flipped it, and opens it
		if err == nil {
			return true, nil
		}
	}
	if errors.Is(err, operation.ErrLeaseLost) {
		// We were stopped for so long that another worker took over. It undid or
		// used what we had done by then, but perhaps our PAUSE came after that.
		if k.pausing {
			err = errors.Join(err, s.resume(clean, r))
		}
		return false, err
	}
	k.c.attempt.HeldMS = ms(time.Since(k.start))
	k.c.attempt.Outcome = "given up: " + reason.Error()
	r.Data.Receipt.Attempts = append(r.Data.Receipt.Attempts, k.c.attempt)
	if serr := r.SetReceipt(r.Data.Receipt); serr != nil {
		return false, serr
	}
	if err != nil {
		return false, errors.Join(errUndecided, err, reason)
	}
	return false, reason
}

// reopen opens the source again, if the placement still names it: the fence
// down, PgBouncers and nodes going on. It may be called at any time before the
// flip. Errors: errFlipped; anything else: call it again.
func (s *Service) reopen(ctx context.Context, r *run, holdID string) error {
	if err := s.notFlipped(ctx, r); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.unfence(gctx, r, r.Data.From.Shard) })
	g.Go(func() error { return s.resume(gctx, r) })
	if err := g.Wait(); err != nil {
		return err
	}
	if holdID != "" {
		_ = s.publisher.Release(ctx, shardmap.Release{Tenant: r.Data.Tenant, ID: holdID}) // nodes end the hold by themselves too
	}
	return nil
}

// notFlipped returns errFlipped if the placement names another shard than the
// source. It locks the row: a flip whose COMMIT is under way, though its worker
// has given it up or died, is not seen by who only reads, and comes after all.
func (s *Service) notFlipped(ctx context.Context, r *run) error {
	return s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		t, err := s.store.LockTenant(ctx, tx, r.Data.Tenant)
		if err == nil && t.Placement.Shard != r.Data.From.Shard {
			err = errFlipped
		}
		return err
	})
}

// resume has every PgBouncer on the way let clients go on.
func (s *Service) resume(ctx context.Context, r *run) error {
	shards, err := s.gateShards(ctx, r)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, on := range shards {
		g.Go(func() error {
			console, err := s.fleet.Console(gctx, on)
			if errors.Is(err, syscall.ECONNREFUSED) {
				return nil // a PgBouncer that is gone has forgotten its pause; one that is out of reach has not
			}
			if err != nil {
				return fmt.Errorf("resume: %w", err)
			}
			defer console.Close()
			return console.Resume(gctx, r.Data.database())
		})
	}
	return g.Wait()
}

// unfence lets logins in at one side, as the worker that the database obeys,
// unless the tenant is suspended.
func (s *Service) unfence(ctx context.Context, r *run, on shardmap.ShardID) error {
	guard, err := s.connect(ctx, on, r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(guard)
	if err := claim(ctx, guard, leaseOf(r), r.Held); err != nil {
		return err
	}
	return s.unfenceWith(ctx, r, guard)
}

func (s *Service) unfenceWith(ctx context.Context, r *run, guard *pgx.Conn) error {
	if r.Data.From.State != shardmap.Active {
		return nil
	}
	return guarded(ctx, guard, leaseOf(r), func(conn *pgx.Conn) error { return shard.Unfence(ctx, conn, r.Data.database()) })
}

// prelude brings over what the stream does not carry, and waits for a moment
// in which nothing old is under way: it holds nobody back.
func (s *Service) prelude(ctx context.Context, r *run, c *crew) error {
	var err error
	if err := s.waitQuiet(ctx, r, c); err != nil {
		return err
	}
	if c.state, err = readState(ctx, c.srcState); err != nil {
		return err
	}
	if c.state.Schema != r.Data.Fingerprint {
		return errSchemaChanged
	}
	if c.state.Prepared {
		return errPrepared
	}
	if err := shard.SyncRoles(ctx, c.srcServer, c.dstServer, r.Data.database()); err != nil {
		return err
	}
	if err := s.refresh(ctx, r, c.views); err != nil {
		return err
	}
	if err := c.rehearse(ctx, r); err != nil {
		return err
	}
	for tries := 0; ; tries++ {
		took, err := probe(ctx, c.src, c.dst, r.Data.MaxPause)
		if err != nil {
			return err
		}
		if took <= r.Data.MaxPause/4 {
			break
		}
		if tries == 20 {
			return fmt.Errorf("changes take %v to arrive, more than a quarter of the pause budget", took.Round(time.Millisecond))
		}
		if err := sleep.For(ctx, jitter(50*time.Millisecond)); err != nil {
			return err
		}
	}
	return s.waitQuiet(ctx, r, c)
}

// waitQuiet waits until no transaction of the tenant is old enough that it
// would likely outlast the pause. The tenant that is never quiet is tried all
// the same, as long as nothing is open for long.
func (s *Service) waitQuiet(ctx context.Context, r *run, c *crew) error {
	start, quiet := time.Now(), min(max(r.Data.MaxPause/10, 5*time.Millisecond), 50*time.Millisecond)
	for {
		age, who, err := survey.OldestWrite(ctx, c.srcState)
		if err != nil {
			return err
		}
		switch {
		case age < quiet:
			return nil
		case time.Since(start) > time.Second && age < r.Data.MaxPause:
			return nil
		case time.Since(start) > quietFor:
			return fmt.Errorf("%s has a transaction open for %v", who, age.Round(time.Millisecond))
		case age > time.Second:
			r.Report(operation.Progress{Phase: "cutover", Percent: 99.5, Waiting: fmt.Sprintf("for a transaction to end, open for %v: %s", age.Round(100*time.Millisecond), who)})
		}
		if err := sleep.For(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}

// undoCutover leaves the source served, whatever an attempt left.
func (s *Service) undoCutover(ctx context.Context, r *run) error {
	err := s.reopen(ctx, r, "")
	if errors.Is(err, errFlipped) {
		return operation.Permanent(err)
	}
	if err != nil {
		return err
	}
	src, err := s.connect(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(src)
	return unclaim(ctx, src)
}

func (s *Service) checkCutover(_ context.Context, r *run) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "waits for a quiet moment, then within %v: holds requests, pauses PgBouncer, fences %s, waits for the last change and sets the sequences at %s, and flips the placement; an attempt that takes longer is taken back and made again, up to %d times",
		r.Data.MaxPause, r.Data.From.Shard, r.Data.To, maxAttempts)
	return b.String(), nil
}
