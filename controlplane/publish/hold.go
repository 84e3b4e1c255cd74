package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/freehold-db/freehold/shardmap"
)

// aliveFor is how long it says something who was alive: one attempt to cut over follows another within it.
const aliveFor = time.Minute

// Hold asks the nodes to hold the tenant's requests and collects the answers of
// those alive until all have answered or wait is over, which bounds finding out
// who is alive, too: requests are held meanwhile. expected is how many nodes are
// alive, or were a moment ago; all of them drained only if acks has that many with Drained set.
// Errors: ErrUnavailable, at once when NATS is away (then nothing is held, or
// not for sure): the cutover may go on without.
func (p *Publisher) Hold(ctx context.Context, h shardmap.Hold, wait time.Duration) (acks []shardmap.HoldAck, expected int, err error) {
	if !p.nc.IsConnected() {
		return nil, 0, ErrUnavailable
	}
	question, err := json.Marshal(h)
	if err != nil {
		return nil, 0, fmt.Errorf("hold of %s: %w", h.Tenant, err)
	}
	inbox, all := shardmap.AnswersTo(uuid.NewString())
	answers, err := p.nc.SubscribeSync(all)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: hold of %s: %w", ErrUnavailable, h.Tenant, err)
	}
	defer func() { _ = answers.Unsubscribe() }() // answers that come later are of no use
	if err := p.nc.PublishRequest(shardmap.SubjectHold+string(h.Tenant), inbox, question); err != nil {
		return nil, 0, fmt.Errorf("%w: hold of %s: %w", ErrUnavailable, h.Tenant, err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	alive, err := p.aliveNow(ctx) // while they finish what is under way
	if err != nil {
		return nil, 0, err
	}
	expected = len(alive)
	for len(alive) > 0 {
		m, err := answers.NextMsgWithContext(ctx)
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return acks, expected, nil // nodes with a heartbeat, but none that listens
		case err != nil && ctx.Err() != nil:
			return acks, expected, nil
		case err != nil:
			return acks, expected, fmt.Errorf("%w: hold of %s: %w", ErrUnavailable, h.Tenant, err)
		}
		var ack shardmap.HoldAck
		if json.Unmarshal(m.Data, &ack) != nil || ack.ID != h.ID || !alive[ack.Node] || !shardmap.Answered(m.Subject, ack.Node) {
			continue // not an answer to this question, not the first, or not the node's own
		}
		delete(alive, ack.Node)
		acks = append(acks, ack)
	}
	return acks, expected, nil
}

// aliveNow lists the nodes with a heartbeat, or, if NATS does not say in time,
// those that had one a moment ago.
func (p *Publisher) aliveNow(ctx context.Context) (map[string]bool, error) {
	nodes, err := p.alive(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.nodes, p.nodesAt = maps.Clone(nodes), time.Now()
		return nodes, nil
	}
	if p.nodes != nil && time.Since(p.nodesAt) < aliveFor {
		return maps.Clone(p.nodes), nil
	}
	return nil, err
}

// heartbeats opens the bucket of nodes.
func (p *Publisher) heartbeats(ctx context.Context) (jetstream.KeyValue, error) {
	js, err := jetstream.New(p.nc)
	if err != nil {
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	return js.KeyValue(ctx, shardmap.BucketNodes)
}

// alive lists the nodes with a heartbeat.
func (p *Publisher) alive(ctx context.Context) (map[string]bool, error) {
	kv, err := p.heartbeats(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: who is alive is not known: %w", ErrUnavailable, err)
	}
	keys, err := kv.ListKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: who is alive is not known: %w", ErrUnavailable, err)
	}
	defer func() { _ = keys.Stop() }() // it has come to its end, or ctx has
	nodes := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: who is alive is not known: %w", ErrUnavailable, ctx.Err())
		case node, ok := <-keys.Keys():
			if !ok {
				return nodes, nil
			}
			nodes[node] = true
		}
	}
}

// Reports collects what nodes say that their requests saw of a hold, until as
// many have answered as are given or ctx ends. It is called once; what nobody
// collects is let go after a minute.
type Reports func(ctx context.Context, nodes int) []shardmap.HoldReport

// reportsFor is how long reports are kept for whoever collects them.
const reportsFor = time.Minute

// Release ends a hold at all nodes, with the new placement if there is one, and
// waits for nobody.
// Errors: ErrUnavailable; nodes then end the hold by themselves, and report nothing.
func (p *Publisher) Release(_ context.Context, r shardmap.Release) (Reports, error) {
	if !p.nc.IsConnected() {
		return nil, ErrUnavailable
	}
	message, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("release of %s: %w", r.Tenant, err)
	}
	inbox, all := shardmap.AnswersTo(uuid.NewString())
	answers, err := p.nc.SubscribeSync(all)
	if err != nil {
		return nil, fmt.Errorf("%w: release of %s: %w", ErrUnavailable, r.Tenant, err)
	}
	if err := p.nc.PublishRequest(shardmap.SubjectRelease+string(r.Tenant), inbox, message); err != nil {
		_ = answers.Unsubscribe()
		return nil, fmt.Errorf("%w: release of %s: %w", ErrUnavailable, r.Tenant, err)
	}
	forgotten := time.AfterFunc(reportsFor, func() { _ = answers.Unsubscribe() })
	return func(ctx context.Context, nodes int) []shardmap.HoldReport {
		forgotten.Stop()
		defer func() { _ = answers.Unsubscribe() }()
		return collect(ctx, answers, r.ID, nodes)
	}, nil
}

// collect reads the reports of one hold, one of each node.
func collect(ctx context.Context, answers *nats.Subscription, id string, nodes int) (reports []shardmap.HoldReport) {
	seen := map[string]bool{}
	for len(seen) < nodes {
		m, err := answers.NextMsgWithContext(ctx)
		if err != nil { // no more will come, or not in time
			break
		}
		var r shardmap.HoldReport
		if json.Unmarshal(m.Data, &r) != nil || r.ID != id || seen[r.Node] || !shardmap.Answered(m.Subject, r.Node) {
			continue
		}
		seen[r.Node] = true
		reports = append(reports, r)
	}
	return reports
}
