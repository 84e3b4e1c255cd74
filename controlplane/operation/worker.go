package operation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

const (
	// pollEvery bounds how late a worker notices what no notification told it.
	pollEvery = time.Second
	// pollLeast keeps a worker that sees work it can't have from spinning.
	pollLeast = 20 * time.Millisecond
	// callTimeout bounds one look at the catalog.
	callTimeout = 5 * time.Second
)

var (
	errStopping = errors.New("the control plane is stopping")
	errCanceled = errors.New("canceled")
)

// Run works on operations until ctx ends, then stops the steps under way (they
// are taken up again by whoever claims them next), gives the leases back and
// returns nil. A catalog that is away is waited out.
func (e *Engine) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { e.store.Listen(ctx, channel, e.notified) })

	slots := make(chan struct{}, e.opt.Workers)
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case slots <- struct{}{}:
		}
		c, wait, err := e.claim(ctx)
		if c != nil {
			failures = 0
			e.mu.Lock()
			e.claims[c.id] = c
			e.mu.Unlock()
			wg.Go(func() {
				c.run(ctx)
				<-slots
				e.poke()
			})
			continue
		}
		<-slots
		if err != nil {
			failures++
			wait = backoff(failures, pollEvery)
			if ctx.Err() == nil {
				e.opt.Logger.WarnContext(ctx, "can't look for operations", slog.Any("error", err))
			}
		} else {
			failures = 0
		}
		select {
		case <-ctx.Done():
		case <-e.wake:
		case <-time.After(wait):
		}
	}
}

func (e *Engine) poke() {
	select {
	case e.wake <- struct{}{}:
	default: // it is awake already
	}
}

// notified takes a notification: a payload is the ID of an operation asked to cancel.
func (e *Engine) notified(id string) {
	if id != "" {
		e.mu.Lock()
		c := e.claims[id]
		e.mu.Unlock()
		if c != nil {
			c.lookNow()
			return
		}
	}
	e.poke()
}

// claim takes the operation that waits longest. If there is none, it says how
// long to wait before looking again.
func (e *Engine) claim(ctx context.Context) (*claim, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kinds, mine := e.claimable()
	asked := time.Now()
	lost := false // by its worker before us
	scan := func(row pgx.CollectableRow) (*record, error) {
		var r record
		err := row.Scan(append(r.fields(), &lost)...)
		return &r, err
	}
	r, err := readAs(ctx, e.store.Pool(), scan, `with due as materialized (
			select id, lease_until is not null as lost from operations where finished_at is null and state in ('pending', 'running', 'undoing')
				and next_run <= clock_timestamp() and (lease_until is null or lease_until < clock_timestamp()) and kind = any($3) and id <> all($4::text[]::uuid[])
			order by next_run limit 1 for update skip locked)
		update operations o set token = token + 1, worker = $1, started_at = coalesce(started_at, clock_timestamp()),
			lease_until = clock_timestamp() + make_interval(secs => $2), state = case state when 'pending' then 'running' else state end
		from due where o.id = due.id
		returning `+columns+`, due.lost`, e.opt.Worker, e.opt.LeaseFor.Seconds(), kinds, mine)
	if err == nil {
		if lost {
			e.count.takeovers.WithLabelValues(r.Kind).Inc()
			e.opt.Logger.InfoContext(ctx, "took an operation over", slog.String("operation", r.ID), slog.String("kind", r.Kind))
		}
		return newClaim(e, e.kinds[r.Kind], r, asked.Add(e.opt.LeaseFor)), 0, nil
	}
	if !errors.Is(err, catalog.ErrNotFound) {
		return nil, 0, err
	}
	var seconds *float64
	err = e.store.Pool().QueryRow(ctx, `select extract(epoch from min(greatest(next_run, lease_until)) - clock_timestamp())::float8
		from operations where state in ('pending', 'running', 'undoing') and kind = any($1) and id <> all($2::text[]::uuid[])`, kinds, mine).Scan(&seconds)
	if err != nil {
		return nil, 0, catalog.Classify(err)
	}
	if seconds == nil {
		return nil, pollEvery, nil
	}
	due := time.Duration(*seconds * float64(time.Second))
	return nil, min(max(due, pollLeast), pollEvery), nil
}

// claimable tells the kinds of which this engine may take one more operation,
// and what it works on: a step of ours may still be winding down after its
// lease was lost, and its operation is left to others.
func (e *Engine) claimable() (kinds, mine []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	long := 0
	mine = make([]string, 0, len(e.claims))
	for id, c := range e.claims {
		mine = append(mine, id)
		if c.kind.long {
			long++
		}
	}
	full := long >= e.opt.Workers-max(1, e.opt.Workers/3)
	for name, k := range e.kinds {
		if !k.long || !full {
			kinds = append(kinds, name)
		}
	}
	return kinds, mine
}

// claim is this worker's hold on one operation, and ends with it.
type claim struct {
	e     *Engine
	kind  *kind
	id    string
	op    *Operation // as the worker last read or wrote it; only run's goroutine touches it
	token int64
	until time.Time // by this process's monotonic clock; never later than what the catalog has

	ctx  context.Context // ends when the lease is lost or the work is over
	lose context.CancelCauseFunc
	look chan struct{} // renew now
	prog reporter

	mu         sync.Mutex
	canceled   bool                    // someone asked to cancel
	cancelStep context.CancelCauseFunc // of the step under way
}

func newClaim(e *Engine, k *kind, r *record, until time.Time) *claim {
	return &claim{e: e, kind: k, id: r.ID, op: &r.Operation, token: r.token, until: until,
		look: make(chan struct{}, 1), canceled: r.CancelRequested, prog: newReporter()}
}

// run works on the operation until it ends, has to wait, or the lease is lost.
// When stop ends, the step under way is interrupted and the claim given back.
func (c *claim) run(stop context.Context) {
	c.ctx, c.lose = context.WithCancelCause(context.WithoutCancel(stop))
	var wg sync.WaitGroup
	wg.Go(c.keep)
	wg.Go(func() { c.prog.run(c.ctx, c.writeProgress) })
	defer func() {
		c.e.mu.Lock()
		delete(c.e.claims, c.id)
		c.e.mu.Unlock()
		c.lose(nil)
		wg.Wait()
	}()

	log := c.e.opt.Logger.With(slog.String("operation", c.id), slog.String("kind", c.op.Kind), slog.String("tenant", string(c.op.Tenant)))
	for held := true; held && c.ctx.Err() == nil && !c.op.State.Final(); {
		var err error
		held, err = c.next(stop)
		if err != nil {
			log.WarnContext(c.ctx, "worker lets go of operation", slog.String("step", c.op.Step), slog.Any("error", err))
			held = false
		}
	}
	if c.op.State.Final() {
		c.e.finished(c.ctx, c.op)
		log.InfoContext(c.ctx, "operation ended", slog.String("state", string(c.op.State)), slog.String("error", c.op.Error))
	}
}

// keep renews the lease at a third of its life. It ends the claim when another
// worker has taken over, or may have: when no renewal came through in time.
func (c *claim) keep() {
	lease := c.e.opt.LeaseFor
	wait := lease / 3
	for {
		timer := time.NewTimer(min(wait, time.Until(c.until)))
		select {
		case <-c.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-c.look:
			timer.Stop()
		}
		asked := time.Now()
		if !asked.Before(c.until) {
			c.lose(fmt.Errorf("%w: could not renew it in time", ErrLeaseLost))
			return
		}
		canceled, err := c.renew()
		switch {
		case err == nil:
			c.until, wait = asked.Add(lease), lease/3
			if canceled {
				c.requestCancel()
			}
		case errors.Is(err, ErrLeaseLost):
			c.lose(err)
			return
		default:
			wait = lease/20 + rand.N(lease/20) //nolint:gosec // jitter
		}
	}
}

func (c *claim) renew() (canceled bool, err error) {
	deadline := time.Now().Add(c.e.opt.LeaseFor / 3)
	if c.until.Before(deadline) {
		deadline = c.until
	}
	ctx, cancel := context.WithDeadline(c.ctx, deadline)
	defer cancel()
	err = c.e.store.Pool().QueryRow(ctx, `update operations set lease_until = clock_timestamp() + make_interval(secs => $3)
		where id = $1 and token = $2 and finished_at is null and lease_until is not null returning cancel_requested`,
		c.id, c.token, c.e.opt.LeaseFor.Seconds()).Scan(&canceled)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, ErrLeaseLost
	}
	return canceled, err
}

func (c *claim) lookNow() {
	select {
	case c.look <- struct{}{}:
	default: // it is about to look
	}
}

func (c *claim) requestCancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.canceled = true
	if c.cancelStep != nil {
		c.cancelStep(errCanceled)
	}
}

func (c *claim) cancelRequested() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.canceled
}

// backoff is the wait after the nth failure in a row: it doubles, up to most, with jitter.
func backoff(n int, most time.Duration) time.Duration {
	d := min(200*time.Millisecond<<min(max(n-1, 0), 20), most)
	return d/2 + rand.N(d/2) //nolint:gosec // jitter
}
