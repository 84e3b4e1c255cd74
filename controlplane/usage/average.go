package usage

import (
	"math"
	"time"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

const (
	// nowOver and dayOver are the times over which figures are averaged: what is
	// that old counts for 37 % of what is new.
	nowOver = 5 * time.Minute
	dayOver = 24 * time.Hour
)

// average is what is kept of a tenant, of other databases and of a whole shard.
// Both averages are exponentially weighted; in the beginning, when there is less
// to average over, they are plain means.
type average struct {
	now     catalog.Rates
	day     catalog.DayRates
	seconds float64 // measured in all
	peaks   peaks
}

// resumed goes on from what was saved.
func resumed(r catalog.TenantReading) average {
	return average{now: r.Now, day: r.Day, seconds: r.Seconds, peaks: resumedPeaks(r.Peaks, r.MeasuredAt)}
}

// weight is what the last dt seconds count in an average over so many, after all
// the seconds before.
func weight(dt, before float64, over time.Duration) float64 {
	return math.Expm1(-dt/over.Seconds()) / math.Expm1(-(before+dt)/over.Seconds())
}

// add takes in what was seen in the dt seconds until at.
func (a *average) add(seen catalog.Rates, dt float64, at time.Time) {
	w := weight(dt, a.seconds, nowOver)
	now, next := fields(&a.now), fields(&seen)
	for i, v := range now {
		*v += w * (*next[i] - *v)
	}
	w = weight(dt, a.seconds, dayOver)
	a.day.Connections += w * (seen.Connections - a.day.Connections)
	a.day.Load += w * (seen.Load - a.day.Load)
	a.day.WAL += w * (seen.WAL - a.day.WAL)
	a.seconds += dt
	a.peaks.see(a.now.Load, at)
}

// fields of rates, one after the other.
func fields(r *catalog.Rates) [11]*float64 {
	return [...]*float64{&r.Connections, &r.Load, &r.WAL, &r.Transactions, &r.RowsRead, &r.RowsWritten, &r.BlocksHit, &r.BlocksRead,
		&r.Requests, &r.Failed, &r.RequestSeconds}
}

// carry adds what a database takes of its shard, as placement counts it.
func (a *average) carry(into *catalog.Carried, bytes int64) {
	into.Databases++
	into.Bytes += float64(bytes)
	into.Connections += max(a.now.Connections, a.day.Connections)
	into.Load += max(a.now.Load, a.day.Load)
	into.WAL += max(a.now.WAL, a.day.WAL)
}

const hours = 24

// peaks are the greatest loads of the last 24 hours, by hour of the day (UTC);
// -1: not seen.
type peaks struct {
	of   [hours]float32
	hour int64 // the last one seen, since 1970; 0: none
}

func resumedPeaks(saved []float32, at time.Time) (p peaks) {
	if len(saved) != hours {
		return p
	}
	copy(p.of[:], saved)
	p.hour = at.Unix() / 3600
	return p
}

func (p *peaks) see(load float64, at time.Time) {
	hour := at.Unix() / 3600
	if p.hour == 0 || hour-p.hour >= hours || hour < p.hour {
		for h := range p.of {
			p.of[h] = -1
		}
	} else {
		for h := p.hour + 1; h <= hour; h++ {
			p.of[h%hours] = -1
		}
	}
	p.hour = hour
	p.of[hour%hours] = max(p.of[hour%hours], float32(load))
}

// list is the peaks as they are kept.
func (p *peaks) list() []float32 {
	if p.hour == 0 {
		return nil
	}
	list := p.of
	return list[:]
}

const (
	// busyFrom is the load below which no hour counts as busy.
	busyFrom = 0.02
	// busyKnown is how many hours of the last day must have been seen before any is called busy.
	busyKnown = 20
)

// busy is the set of hours whose peak is in the upper half of what the day's
// hours had, if they differ enough that waiting for another is worth it.
func (p *peaks) busy() (set uint32) {
	least, most, known := math.Inf(1), 0.0, 0
	for _, v := range p.of {
		if p.hour != 0 && v >= 0 {
			least, most, known = min(least, float64(v)), max(most, float64(v)), known+1
		}
	}
	if known < busyKnown || most < busyFrom || most < 2*least {
		return 0
	}
	for h, v := range p.of {
		if float64(v) > (least+most)/2 {
			set |= 1 << h
		}
	}
	return set
}
