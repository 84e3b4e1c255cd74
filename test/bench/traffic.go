package main

import (
	"context"
	"time"

	"github.com/freehold-db/freehold/internal/ledger"
	"github.com/freehold-db/freehold/shardmap"
)

// rate is how many requests a second the moved tenant's application sends.
const rate = 400

// traffic is the application of one tenant: it reads and writes over the REST
// API through both nodes, and keeps the book.
type traffic struct {
	*ledger.Client
	f      *fleet
	tenant shardmap.TenantID
	end    context.CancelFunc
	ended  chan struct{}
}

func (f *fleet) traffic(ctx context.Context, tenant shardmap.TenantID) (*traffic, error) {
	token, err := f.token(tenant)
	if err != nil {
		return nil, err
	}
	c, err := ledger.New(ledger.Config{Nodes: f.Info().DataplaneURLs, Tenants: []ledger.Tenant{{ID: tenant, Token: token, Rate: rate}}})
	if err != nil {
		return nil, err
	}
	if err := c.Open(ctx); err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(ctx)
	t := &traffic{Client: c, f: f, tenant: tenant, end: end, ended: make(chan struct{})}
	go func() { defer close(t.ended); c.Run(ctx) }()
	return t, nil
}

// close ends the traffic. Call it once or twice.
func (t *traffic) close() { t.end(); <-t.ended }

// audit ends the traffic and holds the database against the book.
func (t *traffic) audit(ctx context.Context) (ledger.Receipt, error) {
	t.close()
	return t.Audit(ctx, ledger.Postgres(t.f.home))
}

// pass lets time go by.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
