package traffic_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/internal/traffic"
	"github.com/freehold-db/freehold/shardmap"
)

func TestAReportTravels(t *testing.T) {
	t.Parallel()
	r := traffic.Report{Node: "n1", Tenants: map[shardmap.TenantID]*traffic.Sum{"acme": {Requests: 3, Failed: 1, Seconds: 0.25}, "idle": {}}}
	r.Tenants["acme"].Took.Observe(3 * time.Millisecond)
	data, err := r.Encode()
	require.NoError(t, err)
	require.JSONEq(t, `{"node":"n1","tenants":{"acme":[3,1,0.25,0,0,1],"idle":[0,0,0]}}`, string(data))
	back, err := traffic.Decode(data)
	require.NoError(t, err)
	require.Equal(t, r, back)
}

// The greatest report that a node sends fits into a message of a NATS server's default size.
func TestTheGreatestReportFits(t *testing.T) {
	t.Parallel()
	r := traffic.Report{Node: strings.Repeat("n", 128), Tenants: map[shardmap.TenantID]*traffic.Sum{}}
	sum := traffic.Sum{Requests: 99_999, Failed: 99_999, Seconds: 12_345.678901}
	for i := range sum.Took {
		sum.Took[i] = 99_999
	}
	for i := range traffic.MostTenants {
		r.Tenants[shardmap.TenantID(fmt.Sprintf("t%046d", i))] = &sum
	}
	data, err := r.Encode()
	require.NoError(t, err)
	require.Less(t, len(data), 1<<20)
	_, err = traffic.Decode(data)
	require.NoError(t, err)
	r.Tenants["one-more"] = &sum
	data, err = r.Encode()
	require.NoError(t, err)
	_, err = traffic.Decode(data)
	require.Error(t, err)
}

// Whatever is sent, decoding neither panics nor lets nonsense through.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{"node":"n","tenants":{"a":[1,2,3,4]}}`, `{"node":"n","tenants":{"a":null}}`, `{"node":"n","tenants":{"A":[1,2,3]}}`,
		`{"node":"","tenants":{}}`, `{"node":"n","tenants":{"a":[1e99,-1,3]}}`, `[]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := traffic.Decode(data)
		if err != nil {
			return
		}
		for id, sum := range r.Tenants {
			if _, err := shardmap.ParseTenantID(string(id)); err != nil || sum == nil || !(sum.Seconds >= 0) || math.IsInf(sum.Seconds, 0) {
				t.Fatalf("%s: %+v", id, sum)
			}
		}
	})
}

// A quantile is never off by more than the bucket that it falls into.
func TestQuantile(t *testing.T) {
	t.Parallel()
	require.Zero(t, new(traffic.Histogram).Quantile(0.5))
	rapid.Check(t, func(t *rapid.T) {
		var h traffic.Histogram
		took := rapid.SliceOfN(rapid.Int64Range(0, 30_000), 1, 200).Draw(t, "took in ms")
		for _, ms := range took {
			h.Observe(time.Duration(ms) * time.Millisecond)
		}
		slices.Sort(took)
		q := rapid.Float64Range(0.01, 1).Draw(t, "q")
		exact := took[int(math.Ceil(q*float64(len(took))))-1]
		got := h.Quantile(q)
		least, most := time.Duration(0), time.Millisecond
		for ; most <= time.Duration(exact)*time.Millisecond && most < 1<<15*time.Millisecond; most *= 2 {
			least = most
		}
		if got < least || got > most {
			t.Fatalf("%v of %v: %s, exactly %d ms", q, took, got, exact)
		}
	})
}
