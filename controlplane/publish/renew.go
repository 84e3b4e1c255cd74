package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/freehold-db/freehold/shardmap"
)

// Renewed is what came of telling the nodes of a new generation of logins.
type Renewed struct {
	Nodes int // alive, or a moment ago
	Acks  []shardmap.RenewalAck
}

// Done counts the nodes that use the new generation and nothing older.
func (r Renewed) Done() (n int) {
	for _, a := range r.Acks {
		if a.Done {
			n++
		}
	}
	return n
}

// Renew tells the nodes that a tenant's logins have a new generation, and
// collects the answers of those alive until all have answered or wait is over.
// Errors: ErrUnavailable, at once when NATS is away: nobody was told, or not for sure.
func (p *Publisher) Renew(ctx context.Context, tenant shardmap.TenantID, generation int64, wait time.Duration) (r Renewed, err error) {
	if !p.nc.IsConnected() {
		return r, ErrUnavailable
	}
	id := uuid.NewString()
	// They are to say in time that they are not done, too: an answer takes a while.
	question, err := json.Marshal(shardmap.Renewal{Tenant: tenant, Generation: generation, ID: id, For: wait - wait/5})
	if err != nil {
		return r, fmt.Errorf("renewal of %s: %w", tenant, err)
	}
	inbox, all := shardmap.AnswersTo(id)
	answers, err := p.nc.SubscribeSync(all)
	if err != nil {
		return r, fmt.Errorf("%w: renewal of %s: %w", ErrUnavailable, tenant, err)
	}
	defer func() { _ = answers.Unsubscribe() }() // answers that come later are of no use
	if err := p.nc.PublishRequest(shardmap.SubjectRenew+string(tenant), inbox, question); err != nil {
		return r, fmt.Errorf("%w: renewal of %s: %w", ErrUnavailable, tenant, err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	alive, err := p.aliveNow(ctx)
	if err != nil {
		return r, err
	}
	r.Nodes = len(alive)
	for len(alive) > 0 {
		m, err := answers.NextMsgWithContext(ctx)
		switch {
		case errors.Is(err, nats.ErrNoResponders), err != nil && ctx.Err() != nil:
			return r, nil
		case err != nil:
			return r, fmt.Errorf("%w: renewal of %s: %w", ErrUnavailable, tenant, err)
		}
		var ack shardmap.RenewalAck
		if json.Unmarshal(m.Data, &ack) != nil || ack.ID != id || !alive[ack.Node] || !shardmap.Spoke(m.Subject, ack.Node) {
			continue // not an answer to this question, not the first, or not the node's own
		}
		delete(alive, ack.Node)
		r.Acks = append(r.Acks, ack)
	}
	return r, nil
}
