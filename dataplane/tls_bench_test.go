package dataplane_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/pgtest"
)

// BenchmarkDatabaseTLS holds a node whose links to PgBouncer and Postgres are by
// TLS, verified from both sides, against one in plain text (and PgBouncer's to
// Postgres by a unix socket). Both take turns, so that only the ratio counts.
func BenchmarkDatabaseTLS(b *testing.B) {
	type half struct {
		side
		token string
	}
	var halves [2]half
	for i, shard := range []*pgtest.ShardServer{pgtest.SharedShard(b, "s1"), pgtest.SharedSecureShard(b, "secure")} {
		w := worldOf(b, shard)
		w.tenant("acme", benchRows)
		node := w.node(func(c *dataplane.Config) {
			c.Router.TenantConns = benchConns
			c.RatePerTenant = 1e9
		})
		halves[i] = half{side: side{url: node.URL(), bouncer: shard.Bouncer.Pid(), postgres: shard.Postgres.Pid(),
			next: func() (string, string) { return fmt.Sprintf("/rest/v1/notes?id=eq.%d", 1+rand.IntN(benchRows)), "" }}, token: w.token("acme", "editor")}
	}
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprintf("key/c=%d", clients), func(b *testing.B) {
			for i := range halves {
				h := &halves[i]
				h.fire(b, h.token, clients) // warm
				h.latencies, h.turns, h.took, h.mallocs = nil, nil, 0, 0
			}
			for turn := range benchTurns {
				for i := range halves {
					h := &halves[(turn+i)%2]
					h.fire(b, h.token, clients)
				}
			}
			plain, secure := &halves[0], &halves[1]
			b.ReportMetric(secure.rate(), "req/s")
			b.ReportMetric(plain.rate(), "plain-req/s")
			b.ReportMetric(secure.rate()/plain.rate(), "×throughput")
			for prefix, s := range map[string]*half{"": secure, "plain-": plain} {
				b.ReportMetric(percentile(s.latencies, 50).Seconds()*1e3, prefix+"p50-ms")
				b.ReportMetric(percentile(s.latencies, 99).Seconds()*1e3, prefix+"p99-ms")
				b.ReportMetric(s.each(func(p processors) time.Duration { return p.here }), prefix+"cpu-µs/req")
				b.ReportMetric(s.each(func(p processors) time.Duration { return p.bouncer }), prefix+"bouncer-µs/req")
				b.ReportMetric(s.each(func(p processors) time.Duration { return p.postgres }), prefix+"postgres-µs/req")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
