package share

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/freehold-db/freehold/internal/natsrole"
	"github.com/freehold-db/freehold/shardmap"
)

// subject is the prefix of where a node tells the others what demand it sees.
const subject = natsrole.SubjectDemand

// Bounds of what was received and not yet taken in.
const (
	pendingMessages = 4096
	pendingBytes    = 32 << 20
)

// Link carries reports over NATS. Messages that are lost are made good by the next ones.
type Link struct {
	nc   *nats.Conn
	name string
	log  *slog.Logger
}

// NewLink is the link of the node of that name. It uses a connection that belongs to somebody else, and may be away.
func NewLink(nc *nats.Conn, name string, log *slog.Logger) *Link { return &Link{nc, name, log} }

// Run hands every report to hear, and calls tick every [Every] until ctx ends.
// hear and tick may run at the same time.
func (l *Link) Run(ctx context.Context, hear func(Report), tick func()) {
	// Made without a connection too; the server hears of it when there is one.
	sub, err := l.nc.Subscribe(subject+"*", func(msg *nats.Msg) {
		r, err := Decode(msg.Data)
		name, _, _ := strings.Cut(r.Node, "/") // what follows tells its lives apart
		if err != nil || !shardmap.Spoke(msg.Subject, name) {
			l.log.Warn("a report of demand that is malformed, or not the node's own, is ignored", "subject", msg.Subject)
			return
		}
		hear(r)
	})
	if err != nil { // rates are divided by nodes then, as with NATS away
		l.log.Error("other nodes' demand cannot be heard", "error", err)
	} else {
		_ = sub.SetPendingLimits(pendingMessages, pendingBytes) // fails for a closed subscription only
		defer func() { _ = sub.Unsubscribe() }()
	}
	ticker := time.NewTicker(Every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			tick()
		case <-ctx.Done():
			return
		}
	}
}

// Send publishes a report; one that cannot be sent now is worth nothing later.
func (l *Link) Send(r Report) {
	data, err := r.Encode()
	if err == nil {
		err = l.nc.Publish(subject+shardmap.NodeToken(l.name), data)
	}
	if err != nil {
		l.log.Debug("report of demand not sent", "error", err)
	}
}
