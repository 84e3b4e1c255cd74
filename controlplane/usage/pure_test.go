package usage

import (
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/traffic"
	"github.com/freehold-db/freehold/shardmap"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// What is counted between looks adds up to what happened, each thing once:
// statements that run over many looks, and those whose end Postgres writes down late.
func TestCountersAddUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var ended, running, late, rows float64 // ms and rows, as they are
		look := func() counters {
			return counters{rowsWritten: rows, busy: ended - late + running}
		}
		before, sum := look(), counters{}
		for range rapid.IntRange(1, 30).Draw(t, "looks") {
			rows += rapid.Float64Range(0, 1000).Draw(t, "rows")
			running += rapid.Float64Range(0, 10_000).Draw(t, "ran on")
			late = 0
			if rapid.Bool().Draw(t, "a statement ends") {
				ended, late, running = ended+running, rapid.Float64Range(0, 1).Draw(t, "late")*running, 0
			}
			now := look()
			delta := now.since(before)
			sum.rowsWritten, sum.busy = sum.rowsWritten+delta.rowsWritten, sum.busy+delta.busy
			before = now.next(before)
		}
		if math.Abs(sum.rowsWritten-rows) > 1e-6*rows {
			t.Fatalf("%v rows of %v", sum.rowsWritten, rows)
		}
		most, least := ended+running, ended-late+running
		if sum.busy > most*(1+1e-9) || sum.busy < least*(1-1e-9) {
			t.Fatalf("%v ms, not from %v to %v", sum.busy, least, most)
		}
	})
}

func TestCountersThatBeganAnew(t *testing.T) {
	t.Parallel()
	before := counters{reset: 1, transactions: 1000, rowsRead: 5000, busy: 90_000}
	for name, now := range map[string]counters{
		"somebody reset them":     {reset: 2, transactions: 10, rowsRead: 50_000, busy: 70},
		"the server crashed":      {reset: 1, transactions: 10, rowsRead: 50_000, busy: 70},
		"and is busier than ever": {reset: 2, transactions: 2000, rowsRead: 50_000, busy: 95_000},
	} {
		require.Equal(t, now, now.since(before), name)
		require.Equal(t, now, now.next(before), name)
	}
	require.InDelta(t, 16, counters{busy: 4 * 3600 * 1000}.rates(10, 1).Load, 0, "hours of a stream that ended count for little")
	require.InDelta(t, 0.5, counters{busy: 5000}.rates(10, 0).Load, 1e-9)
}

// An average of what does not change is that, at once and for ever, and one of
// what changes is between its extremes.
func TestAverages(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var constant, varying average
		least, most := math.Inf(1), 0.0
		at := noon
		for range rapid.IntRange(1, 50).Draw(t, "looks") {
			dt := rapid.Float64Range(0.1, 100_000).Draw(t, "seconds")
			at = at.Add(time.Duration(dt * float64(time.Second)))
			v := rapid.Float64Range(0, 100).Draw(t, "load")
			least, most = min(least, v), max(most, v)
			constant.add(catalog.Rates{Load: 3, WAL: 5}, dt, at)
			varying.add(catalog.Rates{Load: v}, dt, at)
		}
		for _, v := range []float64{constant.now.Load, constant.day.Load, constant.now.WAL - 2, constant.day.WAL - 2} {
			if math.Abs(v-3) > 1e-9 {
				t.Fatalf("%v", v)
			}
		}
		for _, v := range []float64{varying.now.Load, varying.day.Load} {
			if v < least-1e-9 || v > most+1e-9 {
				t.Fatalf("%v is not from %v to %v", v, least, most)
			}
		}
	})
	var a average
	a.add(catalog.Rates{Load: 1}, 10, noon)
	a.add(catalog.Rates{Load: 0}, 10, noon)
	require.InDelta(t, 0.5, a.day.Load, 0.001, "in the beginning it is the mean")
	a = average{seconds: 30 * 24 * 3600}
	a.add(catalog.Rates{Load: 1}, 5*60, noon)
	require.InDelta(t, 0.632, a.now.Load, 0.001)
	require.Less(t, a.day.Load, 0.004)
}

func TestBusyHours(t *testing.T) {
	t.Parallel()
	day := func(load func(hour int) float64, hours int) *peaks {
		p := &peaks{}
		for h := range hours {
			for m := range 60 {
				p.see(load(h%24), noon.Add(time.Duration(h)*time.Hour+time.Duration(m)*time.Minute))
			}
		}
		return p
	}
	office := func(h int) float64 { // from noon on
		if h >= 20 || h < 4 { // 8:00 to 16:00
			return 0.8
		}
		return 0.1
	}
	require.Equal(t, uint32(0xff00), day(office, 24).busy())
	require.Equal(t, uint32(0xff00), day(office, 24*7).busy())
	require.Zero(t, day(office, 12).busy(), "half a day says nothing of the other half")
	require.Zero(t, day(func(int) float64 { return 5 }, 48).busy(), "no hour is better than another")
	require.Zero(t, day(func(h int) float64 { return 0.0005 * float64(h) }, 48).busy(), "it does next to nothing")

	p := day(office, 24)
	p.see(0.3, noon.Add(26*time.Hour+time.Minute))
	require.Equal(t, []float32{0.3, -1, -1, -1}, []float32{p.list()[14], p.list()[13], p.list()[12], p.list()[12]}, "hours without a look are not known")
	require.InDelta(t, 0.8, p.list()[15], 1e-6)
	again := resumedPeaks(p.list(), noon.Add(26*time.Hour+time.Minute))
	require.Equal(t, *p, again)
	require.Nil(t, new(peaks).list())
}

func TestLogIsSharedOut(t *testing.T) {
	t.Parallel()
	parts := func() []part {
		return []part{{oid: 1, rates: catalog.Rates{RowsWritten: 30}}, {oid: 2, rates: catalog.Rates{RowsWritten: 10}}, {oid: 3}}
	}
	logs := func(p []part) (l []float64) {
		for _, x := range p {
			l = append(l, x.rates.WAL)
		}
		return l
	}
	p := parts()
	shareLog(p, 400, nil, map[uint32]float64{1: 1}, 10)
	require.Equal(t, []float64{300, 100, 0}, logs(p), "as rows are written")
	p = parts()
	shareLog(p, 400, map[uint32]float64{1: 500, 3: 9000}, map[uint32]float64{1: 1500, 2: 500, 3: 600}, 10)
	require.Equal(t, []float64{100, 50, 60}, logs(p), "as statements say, whose counts were begun anew for one")
	p = parts()
	shareLog(p, 105, map[uint32]float64{1: 500, 3: 9000}, map[uint32]float64{1: 1500, 2: 500, 3: 600}, 10)
	require.InDeltaSlice(t, []float64{50, 25, 30}, logs(p), 1e-9, "never more than there was")
	p = parts()[2:]
	shareLog(p, 400, nil, nil, 10)
	require.Equal(t, []float64{0}, logs(p))
}

// many is a look at a shard of n databases, the i-th of which has done i/n of round.
func many(n, round int) look {
	l := look{at: noon.Add(time.Duration(round) * 10 * time.Second), lsn: float64(round) * 1e8, sessions: 100}
	for i := range n {
		work := float64(round*i) / float64(n)
		l.databases = append(l.databases, seen{oid: uint32(i + 1), name: fmt.Sprintf("t_%016x", i), sessions: i % 2,
			counters: counters{transactions: 100 * work, rowsWritten: 50 * work, rowsRead: 1000 * work, blocksHit: 5000 * work, busy: 1000 * work}})
	}
	return l
}

func tenantsOf(l look) map[string]shardmap.TenantID {
	of := map[string]shardmap.TenantID{}
	for i, d := range l.databases {
		of[d.name] = shardmap.TenantID(fmt.Sprintf("tenant-%d", i))
	}
	return of
}

// What the parts of a shard take adds up to the shard; idle tenants cost no
// writes, and what nobody is known to take is the shard's all the same.
func TestAShardIsTheSumOfItsParts(t *testing.T) {
	t.Parallel()
	const n = 200
	s := state{shard: "s1", databases: map[string]*database{}}
	l := many(n, 0)
	l.databases = append(l.databases, seen{oid: 9999, name: "postgres"})
	tenants := tenantsOf(l)
	delete(tenants, "postgres")
	delete(tenants, l.databases[0].name) // in the warm pool
	s.take(l, nil)
	s.settle(tenants, nil)
	require.Empty(t, s.changed(), "nothing is known yet")
	oids := s.toSize(2*n, time.Minute, noon)
	require.Len(t, oids, n+1)
	sizes := map[uint32]int64{}
	for _, oid := range oids {
		sizes[oid] = 10 << 20
	}
	s.size(sizes, noon)
	for round := 1; round <= 20; round++ {
		l := many(n, round)
		l.databases = append(l.databases, seen{oid: 9999, name: "postgres"})
		s.take(l, map[shardmap.TenantID]*traffic.Sum{"tenant-7": {Requests: 20, Seconds: 4, Failed: 10, Took: traffic.Histogram{8: 20}}})
	}
	f := s.figures()
	require.Equal(t, n-1, f.Tenants.Databases)
	require.Equal(t, 1, f.Other.Databases)
	require.InDelta(t, (n+1)*10<<20, f.Bytes(), 1)
	require.InEpsilon(t, 9.95, f.Load, 1e-6)
	require.InEpsilon(t, f.Load, f.Tenants.Load+f.Other.Load, 1e-6)
	require.InEpsilon(t, 1e7, f.WAL, 1e-6)
	require.InEpsilon(t, f.WAL, f.Tenants.WAL+f.Other.WAL, 1e-6)
	require.InDelta(t, 2, f.Requests, 1e-9)
	require.InDelta(t, 0.2, f.Latency(), 1e-9)
	require.Greater(t, f.P95, 0.128)
	changed := s.changed()
	require.Len(t, changed, n-1, "each for the first time")
	s.saved(changed)
	s.take(many(n, 21), map[shardmap.TenantID]*traffic.Sum{"tenant-7": {Requests: 20, Seconds: 4, Failed: 10}})
	require.Empty(t, s.changed(), "they go on as they did")
	busier := many(n, 22)
	busier.databases[50].counters.busy += 50_000
	s.take(busier, map[shardmap.TenantID]*traffic.Sum{"tenant-7": {Requests: 20, Seconds: 4, Failed: 10}})
	changed = s.changed()
	require.Len(t, changed, 1)
	require.EqualValues(t, "tenant-50", changed[0].Tenant)
}

// A tenant's figures go with it, and a database made anew begins anew.
func TestTenantsComeAndGo(t *testing.T) {
	t.Parallel()
	s := state{shard: "s1", databases: map[string]*database{}}
	one, two := seen{oid: 1, name: "t_0000000000000001"}, seen{oid: 2, name: "t_0000000000000002"}
	s.take(look{at: noon, databases: []seen{one, two}}, nil)
	tenants := map[string]shardmap.TenantID{one.name: "acme"}
	require.Equal(t, []shardmap.TenantID{"acme"}, s.newcomers(tenants))
	s.settle(tenants, []catalog.TenantReading{{Tenant: "acme", Shard: "elsewhere", Seconds: 5000, Now: catalog.Rates{Load: 2}, Day: catalog.DayRates{Load: 1}, MeasuredAt: noon}})
	require.Empty(t, s.newcomers(tenants))
	s.size(map[uint32]int64{1: 7, 2: 8}, noon)
	one.counters.busy = 20_000
	s.take(look{at: noon.Add(10 * time.Second), databases: []seen{one, two}}, nil)
	changed := s.changed()
	require.Len(t, changed, 1)
	require.InDelta(t, 2, changed[0].Now.Load, 1e-9)
	require.InDelta(t, 1, changed[0].Day.Load, 0.01)
	require.InDelta(t, 5010, changed[0].Seconds, 1e-9)

	s.settle(map[string]shardmap.TenantID{two.name: "acme"}, nil)
	require.Empty(t, s.changed(), "of that database nothing is known of the tenant")
	one.oid, one.counters.busy = 3, 1e9
	s.take(look{at: noon.Add(20 * time.Second), databases: []seen{one}}, nil)
	require.Len(t, s.databases, 1)
	require.Equal(t, []uint32{3}, s.toSize(10, time.Minute, noon.Add(20*time.Second)))
	require.Zero(t, s.databases[one.name].now.Load)
}

func TestSizesAreReadInTurn(t *testing.T) {
	t.Parallel()
	const n = 1000
	s := state{databases: map[string]*database{}}
	at := noon
	s.take(many(n, 0), nil)
	looks := 0
	for ; ; looks++ {
		oids := s.toSize(50, time.Minute, at)
		if len(oids) == 0 {
			break
		}
		require.Len(t, oids, 50)
		sizes := map[uint32]int64{}
		for _, oid := range oids {
			sizes[oid] = 1
		}
		s.size(sizes, at)
		at = at.Add(time.Second)
	}
	require.Equal(t, n/50, looks)
	s.databases["t_0000000000000005"].wrote = true
	require.Empty(t, s.toSize(50, time.Minute, at))
	require.Equal(t, []uint32{6}, s.toSize(50, time.Minute, noon.Add(2*time.Minute)), "it was written to")
	require.Len(t, s.toSize(2*n, time.Minute, noon.Add(2*time.Hour)), n)
}

func TestInbox(t *testing.T) {
	t.Parallel()
	var b inbox
	report := func(n int, tenants ...shardmap.TenantID) traffic.Report {
		r := traffic.Report{Node: "n1", Tenants: map[shardmap.TenantID]*traffic.Sum{}}
		for _, id := range tenants {
			r.Tenants[id] = &traffic.Sum{Requests: uint32(n)}
		}
		return r
	}
	mine := map[string]*database{"a": {tenant: "acme"}, "pool": {}}
	b.hear(report(3, "acme", "rival"), noon)
	b.hear(report(4, "acme"), noon.Add(time.Second))
	taken := b.take(mine)
	require.Len(t, taken, 1)
	require.EqualValues(t, 7, taken["acme"].Requests)
	require.Empty(t, b.take(mine), "each is taken once")
	b.hear(report(5, "acme"), noon.Add(2*time.Second))
	b.hear(report(6, "acme"), noon.Add(2*time.Minute))
	require.EqualValues(t, 6, b.take(mine)["acme"].Requests, "nobody took it in time")
	require.Empty(t, b.sums, "nor what is another keeper's")
	late := noon.Add(3 * time.Minute)
	b.hear(report(1, "first"), late)
	for i := range keptTenants - 1 {
		b.sums[shardmap.TenantID(strconv.Itoa(i))] = &told{at: late}
	}
	b.hear(report(1, "first", "one-more"), late)
	require.EqualValues(t, 2, b.sums["first"].Requests)
	require.Len(t, b.sums, keptTenants)
}

// What the look at a shard of 10,000 databases costs the control plane, without the look itself.
func BenchmarkTake10000(b *testing.B) {
	s := state{shard: "s1", databases: map[string]*database{}}
	l := many(10_000, 0)
	s.take(l, nil)
	s.settle(tenantsOf(l), nil)
	round := 1
	for b.Loop() {
		l := many(10_000, round)
		round++
		s.take(l, nil)
		s.saved(s.changed())
		s.toSize(100, time.Minute, l.at)
		_ = s.figures()
	}
}
