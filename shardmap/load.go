package shardmap

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A flight is one look-up outside, shared by all who wait for the same answer.
// It outlives the caller who began it, since others may be waiting, but never
// LoadTimeout.
type flight struct {
	done      chan struct{}
	placement Placement // the map's newest when the flight ended
	err       error
}

type flightKey struct {
	tenant TenantID
	than   Epoch
}

// load waits for the flight for (tenant, than), and begins it if there is none.
func (m *Map) load(ctx context.Context, tenant TenantID, than Epoch) (Placement, error) {
	key := flightKey{tenant, than}
	m.mu.Lock()
	if p, ok := m.peek(tenant); ok && p.Epoch > than { // it came since the caller looked
		m.mu.Unlock()
		return p, nil
	}
	f := m.flights[key]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		m.flights[key] = f
		go m.fly(context.WithoutCancel(ctx), key, f)
	}
	news, stop := m.await(tenant, than)
	m.mu.Unlock()
	defer stop()
	select {
	case <-f.done:
		return f.placement, f.err
	case <-news: // Apply was quicker than the look-up
		if p, ok := m.peek(tenant); ok {
			return p, nil
		}
	case <-ctx.Done():
		return Placement{}, fmt.Errorf("tenant %s: look up placement: %w", tenant, ctx.Err())
	}
	select { // evicted the moment it came: rare, and the flight is still under way
	case <-f.done:
		return f.placement, f.err
	case <-ctx.Done():
		return Placement{}, fmt.Errorf("tenant %s: look up placement: %w", tenant, ctx.Err())
	}
}

func (m *Map) fly(ctx context.Context, key flightKey, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.LoadTimeout)
	defer cancel()
	m.stats.loads.Add(1)
	p, err := m.loader.LoadPlacement(ctx, key.tenant, key.than)
	if err == nil {
		err = p.Validate()
	}
	if err == nil && p.Tenant != key.tenant {
		err = fmt.Errorf("asked for it and got %s", p.Tenant)
	}

	m.mu.Lock()
	delete(m.flights, key)
	fresh := false
	switch {
	case err == nil:
		fresh = m.store(p, true)
		f.placement = p
	case errors.Is(err, ErrUnknownTenant):
		m.forget(key)
	default:
		m.stats.loadErrors.Add(1)
		err = fmt.Errorf("%w: %w", ErrUnresolved, err)
	}
	// Whatever the look-up said, what the map knows by now may be newer.
	if known, ok := m.peek(key.tenant); ok && (err == nil || known.Epoch > key.than) {
		f.placement, err = known, nil
	}
	if err != nil {
		f.placement, f.err = Placement{}, fmt.Errorf("tenant %s: %w", key.tenant, err)
	}
	m.mu.Unlock()
	close(f.done)
	if fresh {
		m.announce(p)
	}
}

// forget notes that the control plane knows no such tenant, unless news newer
// than what was asked about came in meanwhile. Called under mu.
func (m *Map) forget(key flightKey) {
	if known, ok := m.peek(key.tenant); ok {
		if known.Epoch > key.than {
			return
		}
		m.known.Remove(key.tenant)
	}
	m.unknown.Add(key.tenant, time.Now().Add(m.cfg.NegativeFor))
}
