package schema

import (
	"fmt"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkCacheMemory fills a cache with 10,000 databases on three versions of
// a schema (20, 25 and 30 tables with ten columns, keys and relationships), and
// reports what that takes, and what each version takes alone.
func BenchmarkCacheMemory(b *testing.B) {
	const tenants, versions = 10_000, 3
	c := connect(b)
	var documents [][]byte
	for v := range versions {
		exec(b, c, fmt.Sprintf(`DO $$ BEGIN FOR i IN %d..%d LOOP EXECUTE format('CREATE TABLE t%%s (id int PRIMARY KEY, a text, b text, c int, d jsonb, e timestamptz, f numeric, g boolean, h uuid, k int REFERENCES t%%s)', i, greatest(1, i-1)); END LOOP; END $$`,
			[]int{1, 21, 26}[v], 20+5*v))
		document, err := value(b.Context(), c, documentSQL, public.literal)
		require.NoError(b, err)
		documents = append(documents, document)
	}
	for b.Loop() {
		before := heap()
		cache := NewCache(Options{})
		var parsed []*Schema
		for _, document := range documents {
			s, err := Parse(document)
			require.NoError(b, err)
			cache.schemas.add(s)
			parsed = append(parsed, s)
		}
		shared := heap() - before
		for i := range tenants {
			e := cache.entry(key{"t_" + strconv.Itoa(1e9+i), public.key})
			e.seen.Store(&seen{fingerprint: parsed[i%versions].Fingerprint, stamp: []byte(strconv.Itoa(-1e18 - i)), at: cache.now()})
		}
		all := heap() - before
		for i := range tenants {
			require.NotNil(b, cache.Lookup("t_"+strconv.Itoa(1e9+i), public).Schema)
		}
		b.ReportMetric(float64(all)/1e6, "MB")
		b.ReportMetric(float64(shared)/versions/1e3, "KB/version")
		b.ReportMetric(float64(cache.Stats().Bytes)/versions/1e3, "KB-told/version")
		b.ReportMetric(float64(all-shared)/tenants, "B/tenant")
		b.ReportMetric(0, "ns/op")
		runtime.KeepAlive(cache)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // far below
}
