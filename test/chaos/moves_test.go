package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	askFor = 5 * time.Second // one question to one replica, which may be frozen
	// moveFor is how long a move may take while faults go on, and endFor after the last of them.
	moveFor = 8 * time.Minute
	endFor  = 3 * time.Minute
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

// mover keeps tenants moving.
type mover struct {
	admins admins
	shards []string
	began  time.Time

	mu     sync.Mutex
	busy   map[string]bool
	ends   map[string]int    // of moves, by their final state
	errors map[string]string // of moves that failed: one example of each step
	stuck  []string
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
		if err := m.move(ctx, stop, r, tenant); err != nil && ctx.Err() == nil {
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

// move begins one move and watches it to its end. One in eight is cancelled on the way.
func (m *mover) move(ctx context.Context, stop <-chan struct{}, r *rand.Rand, tenant string) error {
	at, err := m.admins.placement(ctx, tenant)
	if err != nil {
		return err
	}
	to := string(at.Shard)
	for to == string(at.Shard) {
		to = m.shards[r.IntN(len(m.shards))]
	}
	key, cancelled := uuid.NewString(), r.IntN(8) == 0
	var op api.Operation
	for { // whoever lost the answer asks again with the same key
		err = m.admins.ask(ctx, func(ctx context.Context, c *client.Client) (err error) {
			op, err = c.MoveTenant(ctx, tenant, api.MoveTenant{To: to}, client.Change{Key: key})
			return err
		})
		var refused *client.Error
		if err == nil {
			break
		}
		if errors.As(err, &refused) && refused.Status < 500 {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
	if cancelled {
		time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
		_ = m.admins.ask(ctx, func(ctx context.Context, c *client.Client) error {
			_, err := c.CancelOperation(ctx, op.ID, client.Change{})
			return err // it may be too late
		})
	}
	m.await(ctx, stop, op.ID)
	return nil
}

// await watches an operation to its end and notes it.
func (m *mover) await(ctx context.Context, stop <-chan struct{}, id string) {
	late := time.After(moveFor)
	for {
		var op api.Operation
		err := m.admins.ask(ctx, func(ctx context.Context, c *client.Client) (err error) {
			op, err = c.Operation(ctx, id)
			return err
		})
		if err == nil && op.Final() {
			example := op.Error
			if op.State == "failed" {
				step, _, _ := strings.Cut(op.Error, ":")
				op.State += " in " + step
			}
			m.note(op.Kind+" "+op.State, example)
			return
		}
		select {
		case <-stop: // no faults any more
			stop = nil
			late = time.After(endFor)
		case <-late:
			m.mu.Lock()
			m.stuck = append(m.stuck, fmt.Sprintf("%s: %+v (%v)", id, op, err))
			m.mu.Unlock()
			return
		case <-ctx.Done():
			return
		case <-time.After(150 * time.Millisecond):
		}
	}
}
