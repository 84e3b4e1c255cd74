package share

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/shardmap"
)

// What is said is bounded, however many tenants are near their limits: those
// nearest are named, and for the others everybody takes an even part.
func TestReportsAreBounded(t *testing.T) {
	t.Parallel()
	a, b := NewBook("a", 1), NewBook("b", 1)
	now := time.Second
	meet := func(seen []Demand) Report {
		now += Every
		r, _ := a.Report(seen, now)
		data, err := r.Encode()
		require.NoError(t, err)
		require.Less(t, len(data), 150_000)
		r, err = Decode(data)
		require.NoError(t, err)
		a.Hear(r, now)
		b.Hear(r, now)
		if s, ok := b.Report(nil, now); ok {
			a.Hear(s, now)
			b.Hear(s, now)
		}
		return r
	}
	meet(nil)
	var seen []Demand
	for i := range 3 * maxDemands {
		seen = append(seen, Demand{shardmap.TenantID(fmt.Sprintf("tenant-with-a-name-as-long-as-they-can-be-%05d", i)), float64(100 + i), 100})
	}
	near, far := seen[len(seen)-1].Tenant, seen[0].Tenant
	r := meet(seen)
	require.True(t, r.More)
	require.Len(t, r.Demand, maxDemands)
	require.Contains(t, r.Demand, near)
	require.InDelta(t, 0.5, b.Share(far, 100, 0, now), 1e-9)
	require.Less(t, b.Share(near, 100, 0, now), 0.1)
	r = meet(nil)
	require.Zero(t, r.Demand[near], "taken back at once")
	require.InDelta(t, 1, b.Share(near, 100, 0, now), 1e-9)
	now += NodeFor
	b.Report(nil, now)
	require.True(t, b.CutOff(now))
}

func TestNobodyNeedsToKnow(t *testing.T) {
	t.Parallel()
	b := NewBook("a", 1)
	now := time.Second
	_, ok := b.Report(nil, now)
	require.True(t, ok, "that it is there")
	b.Hear(Report{Node: "a"}, now)
	b.Hear(Report{Node: "b"}, now)
	_, ok = b.Report(nil, now)
	require.True(t, ok, "a new node should hear of it soon")
	_, ok = b.Report([]Demand{{"acme", 20, 100}}, now+Every)
	require.False(t, ok, "far from its limit")
	r, ok := b.Report([]Demand{{"acme", 30, 100}}, now+2*Every)
	require.True(t, ok)
	require.Equal(t, map[shardmap.TenantID]float64{"acme": 30}, r.Demand)
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{}", `{"node":""}`, `{"node":"a","demand":{"A B":1}}`, `{"node":"a","demand":{"acme":-1}}`, `{"node":"a","demand":{"acme":1e99}}`, `[]`} {
		_, err := Decode([]byte(text))
		require.ErrorIs(t, err, errReport, text)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"node":"a","demand":{"acme":1.5},"more":true}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err != nil {
			return
		}
		b := NewBook("self", 1)
		b.Hear(Report{Node: "self"}, 0)
		b.Hear(r, 0)
		for tenant := range r.Demand {
			if s := b.Share(tenant, 10, 1, 0); s <= 0 || s > 1.0000001 {
				t.Fatalf("share %v", s)
			}
		}
	})
}
