// Package meter counts the requests of each tenant that a node serves, and
// tells the control plane every few seconds (see internal/traffic). Counting
// never waits for telling, and what can't be told is forgotten.
//
// Import law: of this module, meter imports internal/traffic and shardmap only.
package meter

import (
	"context"
	"hash/maphash"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/freehold-db/freehold/internal/traffic"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	// parts keep requests of different tenants from waiting for each other.
	parts = 32
	// mostTenants bounds what is kept between two reports; whoever comes beyond is not counted.
	mostTenants = 100_000
)

// Meter is a node's. It is safe for concurrent use.
type Meter struct {
	node  string
	seed  maphash.Seed
	parts [parts]part
}

type part struct {
	mu   sync.Mutex
	sums map[shardmap.TenantID]*traffic.Sum
}

// New makes the meter of a node of that name.
func New(node string) *Meter { return &Meter{node: node, seed: maphash.MakeSeed()} }

// Count counts a request that took so long and was answered with that status.
// Those refused for the tenant's limits are none that its shard knows of.
func (m *Meter) Count(tenant shardmap.TenantID, took time.Duration, status int) {
	if status == http.StatusTooManyRequests {
		return
	}
	p := &m.parts[maphash.String(m.seed, string(tenant))%parts]
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sums[tenant]
	if s == nil {
		if len(p.sums) >= mostTenants/parts {
			return
		}
		if p.sums == nil {
			p.sums = map[shardmap.TenantID]*traffic.Sum{}
		}
		s = &traffic.Sum{}
		p.sums[tenant] = s
	}
	s.Requests++
	if status >= http.StatusInternalServerError {
		s.Failed++
	}
	s.Seconds += took.Seconds()
	s.Took.Observe(took)
}

// Reports takes what was counted since the last time.
func (m *Meter) Reports() []traffic.Report {
	var reports []traffic.Report
	report := func() map[shardmap.TenantID]*traffic.Sum {
		if n := len(reports); n == 0 || len(reports[n-1].Tenants) == traffic.MostTenants {
			reports = append(reports, traffic.Report{Node: m.node, Tenants: map[shardmap.TenantID]*traffic.Sum{}})
		}
		return reports[len(reports)-1].Tenants
	}
	for i := range m.parts {
		p := &m.parts[i]
		p.mu.Lock()
		sums := p.sums
		p.sums = nil
		p.mu.Unlock()
		for tenant, sum := range sums {
			report()[tenant] = sum
		}
	}
	return reports
}

// Run publishes reports until ctx ends. publish must not wait.
func (m *Meter) Run(ctx context.Context, publish func(subject string, data []byte) error, log *slog.Logger) {
	ticker := time.NewTicker(traffic.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, r := range m.Reports() {
			data, err := r.Encode()
			if err == nil {
				err = publish(traffic.Subject+shardmap.NodeToken(m.node), data)
			}
			if err != nil {
				log.DebugContext(ctx, "report of traffic not sent", "error", err)
			}
		}
	}
}
