package shardmap

import "sync/atomic"

// MapStats counts what a map did since it was made.
type MapStats struct {
	Tenants      int    // remembered now
	Hits         uint64 // answered from memory
	Misses       uint64 // had to be loaded
	NegativeHits uint64 // answered "unknown" from memory
	Refreshes    uint64 // looked again after a refusal
	Loads        uint64 // look-ups outside
	LoadErrors   uint64 // of those, nobody could be asked
	Applied      uint64 // news taken in
	Late         uint64 // news that was old
	Invalid      uint64 // messages that no control plane could have written
}

type mapCounters struct {
	hits, misses, negativeHits, refreshes, loads, loadErrors, applied, late, invalid atomic.Uint64
}

// Stats returns a snapshot of the counters.
func (m *Map) Stats() MapStats {
	s := &m.stats
	return MapStats{
		Tenants: m.Len(), Hits: s.hits.Load(), Misses: s.misses.Load(), NegativeHits: s.negativeHits.Load(),
		Refreshes: s.refreshes.Load(), Loads: s.loads.Load(), LoadErrors: s.loadErrors.Load(),
		Applied: s.applied.Load(), Late: s.late.Load(), Invalid: s.invalid.Load(),
	}
}
