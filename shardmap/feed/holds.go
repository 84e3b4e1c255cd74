package feed

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/freehold-db/freehold/shardmap"
)

const (
	longestHold = time.Minute // no message may keep an acknowledgement pending for longer
	goodbyeFor  = time.Second
)

// listen passes holds, releases and, to who is a [Renewer], renewals on to h until the returned function is called.
func (f *Feed) listen(ctx context.Context, m *shardmap.Map, h Holder) (stop func()) {
	var subs []*nats.Subscription
	handlers := map[string]nats.MsgHandler{
		shardmap.SubjectHold + "*":    func(msg *nats.Msg) { f.hold(ctx, h, msg) },
		shardmap.SubjectRelease + "*": func(msg *nats.Msg) { f.release(m, h, msg) },
	}
	if to, ok := h.(Renewer); ok {
		handlers[shardmap.SubjectRenew+"*"] = func(msg *nats.Msg) { f.renew(ctx, to, msg) }
	}
	for subject, handle := range handlers {
		// Made without a connection too; the server hears of it when there is one.
		sub, err := f.nc.Subscribe(subject, handle)
		if err != nil {
			f.cfg.Log.Error("this node will not hear of cutovers or of new logins", "subject", subject, "error", err)
			continue
		}
		subs = append(subs, sub)
	}
	return func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe()
		}
	}
}

// hold begins a hold and answers when the tenant's requests are done, or when
// the hold's time is over and they are not.
func (f *Feed) hold(ctx context.Context, h Holder, msg *nats.Msg) {
	var hold shardmap.Hold
	if json.Unmarshal(msg.Data, &hold) != nil || shardmap.SubjectHold+string(hold.Tenant) != msg.Subject ||
		hold.ID == "" || hold.For <= 0 || !valid(hold.Tenant) || ctx.Err() != nil {
		f.cfg.Log.Warn("malformed hold ignored", "subject", msg.Subject)
		return
	}
	drained := h.Hold(hold)
	f.holds.Go(func() {
		bound := time.NewTimer(min(hold.For, longestHold))
		defer bound.Stop()
		ack := shardmap.HoldAck{Node: f.cfg.Node, ID: hold.ID}
		select {
		case <-drained:
			ack.Drained = true
		case <-bound.C:
		case <-ctx.Done():
		}
		if msg.Reply == "" {
			return
		}
		data, err := json.Marshal(ack)
		if err == nil {
			err = f.nc.Publish(shardmap.AnswerOf(msg.Reply, f.cfg.Node), data)
		}
		if err != nil {
			f.cfg.Log.Warn("hold not acknowledged", "tenant", hold.Tenant, "error", err)
		}
	})
}

// release ends a hold; the placement that comes with it is taken in first, so
// that what was held goes to the new place. Who asks is told what requests saw.
func (f *Feed) release(m *shardmap.Map, h Holder, msg *nats.Msg) {
	var r shardmap.Release
	if json.Unmarshal(msg.Data, &r) != nil || shardmap.SubjectRelease+string(r.Tenant) != msg.Subject || !valid(r.Tenant) {
		f.cfg.Log.Warn("malformed release ignored", "subject", msg.Subject)
		return
	}
	if r.Placement != nil && r.Placement.Tenant == r.Tenant {
		m.Apply(*r.Placement)
	}
	report := h.Release(r)
	if msg.Reply == "" {
		return
	}
	report.Node = f.cfg.Node
	data, err := json.Marshal(report)
	if err == nil {
		err = f.nc.Publish(shardmap.AnswerOf(msg.Reply, f.cfg.Node), data)
	}
	if err != nil {
		f.cfg.Log.Warn("hold not reported", "tenant", r.Tenant, "error", err)
	}
}

func valid(t shardmap.TenantID) bool {
	_, err := shardmap.ParseTenantID(string(t))
	return err == nil
}

// heartbeat renews this node's entry in the bucket of nodes, by which a cutover
// knows whose acknowledgement to wait for, and takes it out at the end.
func (f *Feed) heartbeat(ctx context.Context) {
	var pace pacer
	for {
		again := f.onReconnect()
		every := time.NewTimer(shardmap.NodeTTL / 3)
		err := f.beat(ctx)
		switch {
		case err != nil:
			every.Stop()
			if !pace.wait(ctx, again) {
				return
			}
			continue
		default:
			pace.reset()
		}
		select {
		case <-every.C:
		case <-again:
			every.Stop()
		case <-ctx.Done():
			every.Stop()
			f.sayGoodbye(context.WithoutCancel(ctx))
			return
		}
	}
}

func (f *Feed) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	kv, err := f.js.KeyValue(ctx, shardmap.BucketNodes) // the control plane makes it, also in a store made anew
	if err != nil {
		return err
	}
	value, err := json.Marshal(map[string]string{"node": f.cfg.Node})
	if err != nil {
		return err
	}
	_, err = kv.Put(ctx, f.cfg.Node, value)
	return err
}

func (f *Feed) sayGoodbye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, goodbyeFor)
	defer cancel()
	if kv, err := f.js.KeyValue(ctx, shardmap.BucketNodes); err == nil {
		_ = kv.Purge(ctx, f.cfg.Node) // at worst it runs out by itself
	}
}
