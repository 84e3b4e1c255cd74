package usage

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

// newcomers are the tenants, by their databases, that were not here the last time.
func (s *state) newcomers(tenants map[string]shardmap.TenantID) (come []shardmap.TenantID) {
	for name, d := range s.databases {
		if tenant := tenants[name]; tenant != "" && tenant != d.tenant {
			come = append(come, tenant)
		}
	}
	return come
}

// settle says which databases tenants live in now. Of newcomers it goes on from
// what is known: they may have come from another shard, or from another keeper.
func (s *state) settle(tenants map[string]shardmap.TenantID, known []catalog.TenantReading) {
	of := make(map[shardmap.TenantID]catalog.TenantReading, len(known))
	for _, r := range known {
		of[r.Tenant] = r
	}
	for name, d := range s.databases {
		tenant := tenants[name]
		if tenant == d.tenant {
			continue
		}
		d.tenant, d.average, d.saved = tenant, average{}, catalog.TenantReading{}
		if r, ok := of[tenant]; ok && tenant != "" {
			d.average = resumed(r)
			if r.Shard == s.shard {
				d.saved = r
			}
		}
	}
}

// measured tells whether enough is known of the database to say what it takes.
func (d *database) measured() bool { return !d.sized.IsZero() && d.seconds > 0 }

// changed are the tenants worth saving: new ones, and those
// whose figures are not what was saved any more. One whose size is not known yet waits for it.
func (s *state) changed() []catalog.TenantReading {
	var list []catalog.TenantReading
	for _, d := range s.databases {
		if d.tenant == "" || !d.measured() {
			continue
		}
		r := catalog.TenantReading{Tenant: d.tenant, Shard: s.shard, MeasuredAt: s.last.at, Seconds: d.seconds, Bytes: d.bytes, Now: d.now, Day: d.day,
			Busy: d.peaks.busy(), Peaks: d.peaks.list()}
		if differs(d.saved, r) {
			list = append(list, r)
		}
	}
	return list
}

// saved takes note of what was.
func (s *state) saved(list []catalog.TenantReading) {
	of := make(map[shardmap.TenantID]catalog.TenantReading, len(list))
	for _, r := range list {
		of[r.Tenant] = r
	}
	for _, d := range s.databases {
		if r, ok := of[d.tenant]; ok && d.tenant != "" {
			d.saved = r
		}
	}
}

// Figures that differ by less than a tenth, or by less than is worth a write, are the same.
const sameShare = 0.1

// worth is the least difference of each figure, as [fields] has them.
var worth = [11]float64{0.1, 0.002, 500, 0.1, 2, 0.1, 10, 1, 0.1, 0.01, 0.002}

const (
	worthBytes = 256 << 10
	// worthPeak is the load from which an hour's peak is worth a write of its own.
	worthPeak = 0.01
)

func differs(saved, now catalog.TenantReading) bool {
	if saved.MeasuredAt.IsZero() || far(float64(saved.Bytes), float64(now.Bytes), worthBytes) || saved.Busy != now.Busy {
		return true
	}
	was, is := fields(&saved.Now), fields(&now.Now)
	for i := range is {
		if far(*was[i], *is[i], worth[i]) {
			return true
		}
	}
	if far(saved.Day.Connections, now.Day.Connections, worth[0]) || far(saved.Day.Load, now.Day.Load, worth[1]) || far(saved.Day.WAL, now.Day.WAL, worth[2]) {
		return true
	}
	return saved.MeasuredAt.Unix()/3600 != now.MeasuredAt.Unix()/3600 && now.Now.Load > worthPeak
}

func far(a, b, least float64) bool {
	return math.Abs(a-b) > max(least, sameShare*max(a, b))
}

// sizeAnyway is when a database is measured again that no rows were written to: vacuum may have given something back.
const sizeAnyway = time.Hour

// toSize picks up to n databases whose size should be read now, those that never
// were first; those that rows were written to no sooner than again after the last time.
func (s *state) toSize(n int, again time.Duration, now time.Time) []uint32 {
	var due []*database
	for _, d := range s.databases {
		age := now.Sub(d.sized)
		if d.sized.IsZero() || age > sizeAnyway || d.wrote && age > again {
			due = append(due, d)
		}
	}
	slices.SortFunc(due, func(a, b *database) int { return cmp.Or(a.sized.Compare(b.sized), cmp.Compare(a.oid, b.oid)) })
	oids := make([]uint32, 0, min(n, len(due)))
	for _, d := range due[:min(n, len(due))] {
		oids = append(oids, d.oid)
	}
	return oids
}

func (s *state) size(sizes map[uint32]int64, now time.Time) {
	for _, d := range s.databases {
		if bytes, ok := sizes[d.oid]; ok {
			d.bytes, d.sized, d.wrote = bytes, now, false
		}
	}
}
