package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	askFor = 5 * time.Second // one question to one replica, which may be frozen
	// moveFor is how long a move may take while faults go on, and endFor after the last of them.
	moveFor = 8 * time.Minute
	endFor  = 3 * time.Minute
	// patience is how long the short form waits before it cancels.
	patience = 10 * time.Second
)

// admins asks the replicas of the control plane in turn until one answers.
type admins []*client.Client

func (a admins) ask(ctx context.Context, question func(context.Context, *client.Client) error) error {
	var all error
	for _, c := range a {
		ctx, cancel := context.WithTimeout(ctx, askFor)
		err := question(ctx, c)
		cancel()
		var refused *client.Error
		if err == nil || errors.As(err, &refused) && refused.Status < 500 {
			return err
		}
		all = errors.Join(all, err)
	}
	return all
}

func (a admins) placement(ctx context.Context, tenant string) (p shardmap.Placement, err error) {
	err = a.ask(ctx, func(ctx context.Context, c *client.Client) (err error) {
		p, err = c.Placement(ctx, tenant)
		return err
	})
	return p, err
}

// mover keeps tenants moving, and does what else is done with them.
type mover struct {
	admins admins
	shards []string
	began  time.Time
	// open opens a tenant's database as its server's superuser.
	open func(ctx context.Context, tenant string) (*pgx.Conn, error)
	// impatient: a move that still waits for a better moment a while after the last fault is cancelled.
	impatient bool

	mu      sync.Mutex
	busy    map[string]bool
	revoked map[string]int // by tenant
	clones  int
	ends    map[string]int    // of operations, by their final state
	errors  map[string]string // of those that failed: one example of each step
	stuck   []string
	wrong   []string
}

// run moves one tenant after the other until stop is closed, and waits for the last move's end.
func (m *mover) run(ctx context.Context, stop <-chan struct{}, tenants []string, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // no secret
	for {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		case <-time.After(rand.N(300 * time.Millisecond)):
		}
		tenant := tenants[r.IntN(len(tenants))]
		if !m.claim(tenant) {
			continue
		}
		if err := m.act(ctx, stop, r, tenant); err != nil && ctx.Err() == nil {
			m.note("not begun", err.Error())
		}
		m.release(tenant)
	}
}

func (m *mover) claim(tenant string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy[tenant] {
		return false
	}
	m.busy[tenant] = true
	return true
}

func (m *mover) release(tenant string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy[tenant] = false
}

func (m *mover) note(end, example string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ends[end]++
	if example != "" && len(m.errors) < maxExamples {
		m.errors[end] = fmt.Sprintf("%s: %.400s", time.Since(m.began).Round(time.Millisecond), example)
	}
}

// move begins one move and watches it to its end. One in eight is cancelled on
// the way; two in five soak, and half of these are taken back.
func (m *mover) move(ctx context.Context, stop <-chan struct{}, r *rand.Rand, tenant string) error {
	at, err := m.admins.placement(ctx, tenant)
	if err != nil {
		return err
	}
	to := string(at.Shard)
	for to == string(at.Shard) {
		to = m.shards[r.IntN(len(m.shards))]
	}
	in := api.MoveTenant{To: to}
	cancelled, soaks, back := r.IntN(8) == 0, r.IntN(5) < 2, r.IntN(2) == 0
	if soaks {
		in.SoakSeconds = soakFor
	}
	op, err := m.begin(ctx, func(ctx context.Context, c *client.Client, ch client.Change) (api.Operation, error) {
		return c.MoveTenant(ctx, tenant, in, ch)
	})
	if err != nil {
		return err
	}
	if cancelled {
		time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
		_ = m.admins.ask(ctx, func(ctx context.Context, c *client.Client) error {
			_, err := c.CancelOperation(ctx, op.ID, client.Change{})
			return err // it may be too late
		})
	}
	if op = m.await(ctx, stop, op); op.State != "done" || !soaks {
		return nil
	}
	if r.IntN(3) == 0 { // the way back takes new logins along
		if err := m.rotate(ctx, stop, r, tenant); err != nil {
			m.note("rotation not begun", err.Error())
		}
	}
	if back {
		time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
		if err := m.follow(ctx, stop, op.ID, "reverse"); err != nil {
			m.note("reverse not begun", err.Error())
		}
	}
	return m.follow(ctx, stop, op.ID, "complete") // nothing to do after a reverse
}

// soakFor is long enough, in seconds, that no soak ends by itself.
const soakFor = 3600

// follow does what may be done to a move that soaks.
func (m *mover) follow(ctx context.Context, stop <-chan struct{}, move, verb string) error {
	op, err := m.begin(ctx, func(ctx context.Context, c *client.Client, ch client.Change) (api.Operation, error) {
		if verb == "reverse" {
			return c.ReverseMove(ctx, move, api.ReverseMove{}, ch)
		}
		return c.CompleteMove(ctx, move, ch)
	})
	var refused *client.Error
	if errors.As(err, &refused) && refused.Status == http.StatusConflict && verb == "complete" {
		return nil // it has ended, by itself or by being reversed
	}
	if err != nil {
		return err
	}
	m.await(ctx, stop, op)
	return nil
}

// begin asks for an operation until it is known to be there, or refused: who
// lost the answer asks again with the same key.
func (m *mover) begin(ctx context.Context, ask func(context.Context, *client.Client, client.Change) (api.Operation, error)) (op api.Operation, err error) {
	ch := client.Change{Key: uuid.NewString()}
	for {
		err = m.admins.ask(ctx, func(ctx context.Context, c *client.Client) (err error) {
			op, err = ask(ctx, c, ch)
			return err
		})
		var refused *client.Error
		if err == nil || errors.As(err, &refused) && refused.Status < 500 {
			return op, err
		}
		select {
		case <-ctx.Done():
			return op, err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// await watches an operation to its end and notes it.
func (m *mover) await(ctx context.Context, stop <-chan struct{}, op api.Operation) api.Operation {
	late := time.After(moveFor)
	var impatient <-chan time.Time
	for {
		now := op
		err := m.admins.ask(ctx, func(ctx context.Context, c *client.Client) (err error) {
			now, err = c.Operation(ctx, op.ID)
			return err
		})
		if err == nil && now.Final() {
			end := now.Kind + " " + now.State
			if now.State == "failed" {
				step, _, _ := strings.Cut(now.Error, ":")
				end += " in " + step
			}
			m.note(end, now.Error)
			return now
		}
		select {
		case <-stop: // no faults any more
			stop, late = nil, time.After(endFor)
			if m.impatient {
				impatient = time.After(patience)
			}
		case <-impatient:
			_ = m.admins.ask(ctx, func(ctx context.Context, c *client.Client) error {
				_, err := c.CancelOperation(ctx, op.ID, client.Change{})
				return err // it may be too late
			})
		case <-late:
			m.mu.Lock()
			defer m.mu.Unlock()
			m.stuck = append(m.stuck, fmt.Sprintf("%s of %s in step %s, attempt %d, waiting %q, error %q (%v)", now.ID, now.Tenant, now.Step, now.Attempt, now.Progress.Waiting, now.Error, err))
			return now
		case <-ctx.Done():
			return now
		case <-time.After(150 * time.Millisecond):
		}
	}
}
