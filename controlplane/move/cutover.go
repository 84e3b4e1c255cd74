package move

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/protocol"
	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/sleep"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	// maxAttempts bounds the tries of one cutover that hold anybody back.
	maxAttempts = 25
	// quietFor is how long one look for a quiet moment lasts.
	quietFor = 20 * time.Second
	// easyTries are the forecasts before a moment is taken that is not easy, or the wait is told.
	easyTries = 10
)

// cutover flips the placement: the point of no return. What it does is written
// in package protocol.
func (s *Service) cutover(ctx context.Context, r *run) error {
	if err := s.awaitWord(ctx, r); err != nil {
		return err
	}
	start := time.Now()
	err := s.insisting(ctx, r, func() error {
		return protocol.Run(ctx, s.stage(r), protocol.Bounds{MaxPause: r.Data.MaxPause, Attempts: maxAttempts, Before: len(r.Data.Receipt.Attempts)})
	})
	if err != nil {
		return err
	}
	r.Data.Receipt.phase("cutover", start)
	return nil
}

// GaveUp records the attempt.
func (st *stage) GaveUp(reason error) error {
	a := &st.c.attempt
	a.HeldMS = ms(time.Since(st.start))
	st.c.hear(context.Background()) // bounded by itself
	a.Outcome = "given up: " + reason.Error()
	st.r.Data.Receipt.Attempts = append(st.r.Data.Receipt.Attempts, *a)
	return st.r.SetReceipt(st.r.Data.Receipt)
}

// Made keeps the crew for the steps that follow.
func (st *stage) Made(left error) {
	st.c.opened = left == nil
	if left != nil {
		st.s.opt.Logger.Warn("move: opening the target is left to the next step", "operation", st.r.Op.ID, "tenant", st.r.Data.Tenant, "error", left)
	}
	st.s.keep(st.r, st.c)
}

func (st *stage) Rest(ctx context.Context, d time.Duration, why string) error {
	if why != "" {
		st.s.opt.Logger.Info("move: cutover waits", "operation", st.r.Op.ID, "tenant", st.r.Data.Tenant, "reason", why)
		st.r.Report(operation.Progress{Phase: "cutover", Percent: 99.5, Waiting: why})
	}
	return sleep.For(ctx, jitter(d))
}

// Flipped tells whether the placement names another shard than the source.
// It locks the row: a flip whose COMMIT is under way, though its worker
// has given it up or died, is not seen by who only reads, and comes after all.
func (st *stage) Flipped(ctx context.Context) (bool, error) {
	flipped := false
	err := st.s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		t, err := st.s.store.LockTenant(ctx, tx, st.r.Data.Tenant)
		flipped = t.Placement.Shard != st.r.Data.From.Shard
		return err
	})
	return flipped, err
}

func (st *stage) Resume(ctx context.Context) error {
	s, r := st.s, st.r
	shards, err := s.gateShards(ctx, r)
	if err != nil {
		return err
	}
	failed := make([]error, len(shards))
	var all sync.WaitGroup
	for i, on := range shards {
		all.Go(func() { failed[i] = s.resume(ctx, on, r.Data.database()) })
	}
	all.Wait()
	for i, on := range shards {
		if _, err := s.unlessGone(ctx, r, on, func() error { return failed[i] }); err != nil {
			return fmt.Errorf("resume: %w", err)
		}
	}
	return nil
}

// resume has one PgBouncer's clients go on. One that breaks the connection is
// asked again: it may have died this moment.
func (s *Service) resume(ctx context.Context, on shardmap.ShardID, database string) (err error) {
	for tries := range 2 {
		var console *shard.Console
		console, err = s.fleet.Console(ctx, on)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil // a PgBouncer that is gone has forgotten its pause; one that is out of reach has not
		}
		if err == nil {
			err = console.Resume(ctx, database)
			console.Close()
		}
		if err == nil || !outOfReach(err) || tries > 0 {
			return err
		}
		if serr := sleep.For(ctx, jitter(50*time.Millisecond)); serr != nil {
			return err
		}
	}
	return err
}

// Unfence lets logins in at one side, as the worker that the database obeys,
// unless the tenant is suspended.
func (st *stage) Unfence(ctx context.Context, side protocol.Side) error {
	if side == protocol.Target && st.c != nil {
		return st.c.opening.commit(ctx)
	}
	on := st.r.Data.From.Shard
	if side == protocol.Target {
		on = st.r.Data.To
	}
	guard, err := st.s.connect(ctx, on, st.r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(guard)
	if err := claim(ctx, guard, leaseOf(st.r), st.r.Held); err != nil {
		return err
	}
	return guarded(ctx, guard, leaseOf(st.r), func(conn *pgx.Conn) error { return st.unfence(ctx, conn) })
}

func (st *stage) unfence(ctx context.Context, conn *pgx.Conn) error {
	if st.r.Data.From.State != shardmap.Active {
		return nil
	}
	return shard.Unfence(ctx, conn, st.r.Data.database())
}

// prelude brings over what the stream does not carry, and waits for a moment
// in which nothing old is under way: it holds nobody back.
func (s *Service) prelude(ctx context.Context, r *run, c *crew) error {
	var err error
	if err := s.hurryDDL(ctx, r, c); err != nil {
		return err
	}
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
	err = guarded(ctx, c.dstGuard, leaseOf(r), func(conn *pgx.Conn) error {
		return shard.SyncRoles(ctx, c.srcServer, conn, r.Data.database())
	})
	if err != nil {
		return err
	}
	if err := s.linkBack(ctx, r, c); err != nil {
		return err
	}
	if err := s.refresh(ctx, r, c.views); err != nil {
		return err
	}
	// Once before the rehearsal, which needs changes to arrive.
	if err := s.waitUntilItFits(ctx, r, c); err != nil {
		return forThisCopy(err)
	}
	if err := c.rehearse(ctx, r); err != nil {
		return err
	}
	if err := s.waitUntilItFits(ctx, r, c); err != nil {
		return forThisCopy(err)
	}
	return s.waitQuiet(ctx, r, c)
}

// forThisCopy: without its slot, no other attempt at the same copy can do better.
func forThisCopy(err error) error {
	if errors.Is(err, stream.ErrNoSlot) {
		return protocol.Final(err)
	}
	return err
}

// waitUntilItFits waits for a moment at which the pause can be kept to the
// budget: for an easy one a while, and no longer than that for one that will do.
func (s *Service) waitUntilItFits(ctx context.Context, r *run, c *crew) error {
	for tries := 0; ; tries++ {
		f, err := s.foresee(ctx, r, c)
		if err != nil {
			return err
		}
		if f.easy(r.Data.MaxPause) || tries >= easyTries && f.fits(r.Data.MaxPause) {
			c.foreseen = f.pause()
			return nil
		}
		why := fmt.Errorf("the pause may be %v at most, and %v", r.Data.MaxPause, f)
		if tries >= easyTries {
			return why
		}
		if !f.fits(r.Data.MaxPause) {
			r.Report(operation.Progress{Phase: "cutover", Percent: 99.5, Waiting: "for a moment to cut over: " + why.Error()})
		}
		if err := sleep.For(ctx, jitter(50*time.Millisecond)); err != nil {
			return err
		}
	}
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

func (s *Service) undoCutover(ctx context.Context, r *run) error {
	return protocol.Undo(ctx, s.stage(r))
}

func (st *stage) Unclaim(ctx context.Context) error {
	src, err := st.s.connect(ctx, st.r.Data.From.Shard, st.r.Data.database())
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
