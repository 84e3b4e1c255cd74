package limit

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freehold-db/freehold/shardmap"
)

// topRanks is how many of the busiest tenants are told apart, by rank.
const topRanks = 5

// talker is what one tenant had since the last survey.
type talker struct {
	id      shardmap.TenantID
	spent   time.Duration
	refused uint64
}

// survey forgets tenants that are gone, and notes who takes most of the node.
// When somebody was refused since the last one, a line of the log says who.
func (l *Limiter) survey(ctx context.Context, now time.Duration) {
	l.surveyed = now
	l.mu.RLock()
	all := make([]*tenant, 0, len(l.tenants))
	for _, t := range l.tenants {
		all = append(all, t)
	}
	l.mu.RUnlock()

	var talkers []talker
	var spent time.Duration
	var refused uint64
	for _, t := range all {
		use := l.gate.Use(&t.flow)
		t.mu.Lock()
		total := use.Refused + t.refused
		one := talker{t.id, use.Spent - t.spentBefore, total - t.refusedBefore}
		t.spentBefore, t.refusedBefore = use.Spent, total
		gone := use.Idle && !t.active && now-t.seen > forgetAfter
		t.mu.Unlock()
		if gone {
			l.mu.Lock()
			delete(l.tenants, t.id)
			l.mu.Unlock()
		}
		if spent, refused = spent+one.spent, refused+one.refused; one.spent > 0 || one.refused > 0 {
			talkers = append(talkers, one)
		}
	}
	slices.SortFunc(talkers, func(a, b talker) int {
		return cmp.Or(cmp.Compare(b.spent, a.spent), cmp.Compare(b.refused, a.refused), cmp.Compare(a.id, b.id))
	})
	var attrs []slog.Attr
	for i := range topRanks {
		part := 0.0
		if i < len(talkers) {
			part = talkers[i].spent.Seconds() / max(spent.Seconds(), 1e-9)
			attrs = append(attrs, slog.Group(strconv.Itoa(i+1), slog.String("tenant", string(talkers[i].id)),
				slog.Float64("part", math.Round(part*100)/100), slog.Uint64("refused", talkers[i].refused)))
		}
		l.top[i].Store(math.Float64bits(part))
	}
	if refused > 0 {
		attrs = append(attrs, slog.Uint64("refused", refused), slog.Int("tenants", len(talkers)))
		l.log.LogAttrs(ctx, slog.LevelInfo, "requests were refused; the busiest tenants", attrs...)
	}
}

// Describe implements [prometheus.Collector].
func (l *Limiter) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(l, to) }

// Collect implements [prometheus.Collector].
func (l *Limiter) Collect(to chan<- prometheus.Metric) {
	gauge := func(name, help string, v float64) {
		to <- prometheus.MustNewConstMetric(prometheus.NewDesc("freehold_limits_"+name, help, nil, nil), prometheus.GaugeValue, v)
	}
	s := l.gate.Stats()
	gauge("concurrency", "Requests that the node would serve at once, as it found out.", float64(s.Bound))
	gauge("under_way", "Requests that hold a place.", float64(s.UnderWay))
	gauge("waiting", "Requests that wait for their turn.", float64(s.Waiting))
	gauge("body_bytes", "Memory that requests' bodies take.", float64(l.bodies.held.Load()))
	gauge("waiting_tenants", "Tenants of whom requests wait.", float64(s.Flows))
	to <- prometheus.MustNewConstMetric(prometheus.NewDesc("freehold_limits_gone_total", "Clients that went away while they waited.", nil, nil), prometheus.CounterValue, float64(s.Gone))
	l.mu.RLock()
	gauge("tenants", "Tenants remembered.", float64(len(l.tenants)))
	l.mu.RUnlock()
	now := l.now()
	l.bookMu.Lock()
	nodes, cut := l.book.Nodes(now), l.book.CutOff(now)
	l.bookMu.Unlock()
	gauge("nodes", "Nodes among which tenants' rates are divided.", float64(nodes))
	cutOff := 0.0
	if cut {
		cutOff = 1
	}
	gauge("cut_off", "Whether other nodes' demand cannot be heard, so that rates are divided evenly.", cutOff)
	desc := prometheus.NewDesc("freehold_limits_top_part", "Part of the places' time that the busiest tenants had, by rank.", []string{"rank"}, nil)
	for i := range l.top {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, math.Float64frombits(l.top[i].Load()), strconv.Itoa(i+1))
	}
}
