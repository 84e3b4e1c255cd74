package feed

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/freehold-db/freehold/shardmap"
)

// Renewer goes over to a new generation of a tenant's logins.
type Renewer interface {
	// Renew returns when no connection by an older generation is left, or an error.
	Renew(ctx context.Context, tenant shardmap.TenantID, generation int64) error
}

// longestRenewal bounds what a message may have a node wait for.
const longestRenewal = time.Minute

// renew has the node use a new generation, and answers when it does.
func (f *Feed) renew(ctx context.Context, to Renewer, msg *nats.Msg) {
	var r shardmap.Renewal
	if json.Unmarshal(msg.Data, &r) != nil || shardmap.SubjectRenew+string(r.Tenant) != msg.Subject ||
		r.ID == "" || r.For <= 0 || !valid(r.Tenant) || ctx.Err() != nil {
		f.cfg.Log.Warn("malformed renewal ignored", "subject", msg.Subject)
		return
	}
	f.holds.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, min(r.For, longestRenewal))
		defer cancel()
		err := to.Renew(ctx, r.Tenant, r.Generation)
		ack := shardmap.RenewalAck{Node: f.cfg.Node, ID: r.ID, Done: err == nil}
		if err != nil {
			f.cfg.Log.Warn("a tenant's new logins are not in use yet", "tenant", r.Tenant, "generation", r.Generation, "error", err)
			if !errors.Is(err, context.DeadlineExceeded) {
				ack.Trouble = err.Error()
			}
		}
		if msg.Reply == "" {
			return
		}
		data, err := json.Marshal(ack)
		if err == nil {
			err = f.nc.Publish(shardmap.AnswerOf(msg.Reply, f.cfg.Node), data)
		}
		if err != nil {
			f.cfg.Log.Warn("renewal not acknowledged", "tenant", r.Tenant, "error", err)
		}
	})
}
