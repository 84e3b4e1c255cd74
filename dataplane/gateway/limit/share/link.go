package share

import (
	"context"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// Subject is where nodes tell each other what demand they see.
const Subject = "freehold.gateway.demand"

// Bounds of what was received and not yet taken in.
const (
	pendingMessages = 4096
	pendingBytes    = 32 << 20
)

// Link carries reports over NATS. Messages that are lost are made good by the next ones.
type Link struct {
	nc  *nats.Conn
	log *slog.Logger
}

// NewLink uses a connection that belongs to somebody else, and may be away.
func NewLink(nc *nats.Conn, log *slog.Logger) *Link { return &Link{nc, log} }

// Run hands every report to hear, and calls tick every [Every] until ctx ends.
// hear and tick may run at the same time.
func (l *Link) Run(ctx context.Context, hear func(Report), tick func()) {
	// Made without a connection too; the server hears of it when there is one.
	sub, err := l.nc.Subscribe(Subject, func(msg *nats.Msg) {
		r, err := Decode(msg.Data)
		if err != nil {
			l.log.Warn("malformed report of other nodes' demand ignored")
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
		err = l.nc.Publish(Subject, data)
	}
	if err != nil {
		l.log.Debug("report of demand not sent", "error", err)
	}
}
