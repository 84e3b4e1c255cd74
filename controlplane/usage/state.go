package usage

import (
	"slices"
	"time"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/traffic"
	"github.com/freehold-db/freehold/shardmap"
)

// state is what is known of a shard between looks.
type state struct {
	shard     shardmap.ShardID
	databases map[string]*database
	last      look // the one before; zero: none yet
	all       average
	recent    []recent // how long requests took, of the last minute
}

// database is one of the shard.
type database struct {
	oid    uint32
	tenant shardmap.TenantID // empty: none
	average
	bytes int64
	sized time.Time // when it was; zero: never
	wrote bool      // rows were written since then
	saved catalog.TenantReading
}

type recent struct {
	at   time.Time
	took traffic.Histogram
}

// recentFor is how long a request's time counts in the shard's quantiles.
const recentFor = time.Minute

// take compares a look with the one before it. requests is what nodes told of
// the shard's tenants meanwhile. The first look at a shard, and at a database, only says where counting begins.
func (s *state) take(l look, requests map[shardmap.TenantID]*traffic.Sum) {
	before := s.last
	s.last = l
	dt := l.at.Sub(before.at).Seconds()
	first := before.at.IsZero() || dt <= 0
	then := make(map[uint32]*seen, len(before.databases))
	for i := range before.databases {
		then[before.databases[i].oid] = &before.databases[i]
	}
	var all catalog.Rates
	parts := make([]part, 0, len(l.databases))
	there := make(map[string]bool, len(l.databases))
	for i := range l.databases {
		now := &l.databases[i]
		there[now.name] = true
		d := s.database(now)
		was, known := then[now.oid]
		if first || !known {
			continue
		}
		delta := now.counters.since(was.counters)
		now.counters = now.counters.next(was.counters)
		d.wrote = d.wrote || delta.rowsWritten > 0
		rates := delta.rates(dt, now.sessions)
		if sum := requests[d.tenant]; sum != nil && d.tenant != "" {
			rates.Requests, rates.Failed, rates.RequestSeconds = float64(sum.Requests)/dt, float64(sum.Failed)/dt, sum.Seconds/dt
		}
		parts = append(parts, part{d, now.oid, rates})
	}
	for name := range s.databases {
		if !there[name] {
			delete(s.databases, name)
		}
	}
	if first {
		return
	}
	wal := max(0, l.lsn-before.lsn) / dt // after a failover it may be a little less
	shareLog(parts, wal, before.logged, l.logged, dt)
	for _, p := range parts {
		p.database.add(p.rates, dt, l.at)
		sum, one := fields(&all), fields(&p.rates)
		for i := range sum {
			*sum[i] += *one[i]
		}
	}
	all.WAL, all.Connections = wal, float64(l.sessions)
	s.all.add(all, dt, l.at)
	s.remember(l.at, requests)
}

// database is the one of that name. One that was made anew keeps nothing but its tenant.
func (s *state) database(now *seen) *database {
	d := s.databases[now.name]
	switch {
	case d == nil:
		d = &database{oid: now.oid}
		s.databases[now.name] = d
	case d.oid != now.oid:
		d.oid, d.bytes, d.sized = now.oid, 0, time.Time{}
	}
	return d
}

// part is what one database had of the time between two looks.
type part struct {
	database *database
	oid      uint32
	rates    catalog.Rates
}

// shareLog says how much of the shard's log is whose. Postgres counts none of it
// by database. Where it is known of statements, that holds, and the rest is
// nobody's; else databases have it as they have rows written.
func shareLog(parts []part, wal float64, before, now map[uint32]float64, dt float64) {
	var sum float64
	if before != nil && now != nil {
		for i := range parts {
			bytes := now[parts[i].oid] - before[parts[i].oid]
			if bytes < 0 { // reset in between
				bytes = now[parts[i].oid]
			}
			parts[i].rates.WAL = bytes / dt
			sum += parts[i].rates.WAL
		}
		if sum > wal && sum > 0 { // the two are not read in the same moment
			for i := range parts {
				parts[i].rates.WAL *= wal / sum
			}
		}
		return
	}
	for _, p := range parts {
		sum += p.rates.RowsWritten
	}
	for i := range parts {
		if sum > 0 {
			parts[i].rates.WAL = wal * parts[i].rates.RowsWritten / sum
		}
	}
}

// remember keeps how long requests took, for the quantiles of the last minute.
func (s *state) remember(at time.Time, requests map[shardmap.TenantID]*traffic.Sum) {
	r := recent{at: at}
	for _, sum := range requests {
		r.took.Add(&sum.Took)
	}
	s.recent = append(slices.DeleteFunc(s.recent, func(r recent) bool { return at.Sub(r.at) > recentFor }), r)
}

// figures of the shard as of the last look.
func (s *state) figures() catalog.ShardFigures {
	l := s.last
	f := catalog.ShardFigures{Rates: s.all.now, Day: s.all.day, Active: l.load.Active, Sessions: l.sessions, MaxSessions: l.most,
		Processors: l.load.Processors, WALShare: l.load.WAL, Lag: l.load.Lag, Behind: l.load.Behind, Peaks: s.all.peaks.list()}
	for name, d := range s.databases {
		if d.tenant != "" {
			if d.measured() {
				d.carry(&f.Tenants, d.bytes)
			}
			continue
		}
		d.carry(&f.Other, d.bytes)
		if !shardmap.ValidDatabase(name) {
			f.Other.Databases-- // Postgres' own, and templates
		}
	}
	// What can be laid to no database's account is carried by the shard all the same.
	f.Other.WAL += max(0, max(s.all.now.WAL, s.all.day.WAL)-f.Tenants.WAL-f.Other.WAL)
	var took traffic.Histogram
	for _, r := range s.recent {
		took.Add(&r.took)
	}
	f.Median, f.P95 = took.Quantile(0.5).Seconds(), took.Quantile(0.95).Seconds()
	return f
}
