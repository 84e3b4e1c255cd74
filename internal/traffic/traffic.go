// Package traffic is what data-plane nodes tell the control plane of the
// requests they served: sums by tenant, every few seconds, over NATS. Nobody
// waits for it, nobody keeps it, and what is lost is lost: it says how busy
// tenants are, and nothing that must be right follows from it.
//
// Import law: of this module, traffic imports shardmap only.
package traffic

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Subject is the prefix of `freehold.traffic.<node>` (see [shardmap.NodeToken]), where a node publishes its reports.
const Subject = "freehold.traffic."

const (
	// Every is the time between a node's reports.
	Every = 5 * time.Second
	// MostTenants bounds one report, which then has some 700 kB at most. A node
	// with more of them sends several.
	MostTenants = 4000
	// Buckets of a [Histogram].
	Buckets = 16
)

// Histogram counts requests by the time they took: bucket 0 those of less than
// 1 ms, bucket i those of less than 2^i ms, the last one all others (16 s and more).
type Histogram [Buckets]uint32

// Observe counts one.
func (h *Histogram) Observe(took time.Duration) {
	h[min(bits.Len64(uint64(max(took, 0)/time.Millisecond)), Buckets-1)]++ //nolint:gosec // not negative
}

// Add counts those of another.
func (h *Histogram) Add(other *Histogram) {
	for i, n := range other {
		h[i] += n
	}
}

// Quantile is the time that the share q of the requests took at most, about;
// 0 if there were none.
func (h *Histogram) Quantile(q float64) time.Duration {
	var all uint64
	for _, n := range h {
		all += uint64(n)
	}
	want := q * float64(all)
	var below float64
	for i, n := range h {
		if n > 0 && below+float64(n) >= want {
			least, most := 0.0, 1.0 // ms
			if i > 0 {
				least, most = math.Exp2(float64(i-1)), math.Exp2(float64(i))
			}
			return time.Duration((least + (want-below)/float64(n)*(most-least)) * float64(time.Millisecond))
		}
		below += float64(n)
	}
	return 0
}

// Sum is what was seen of one tenant's requests.
type Sum struct {
	Requests uint32
	Failed   uint32  // of these, those answered with 5xx
	Seconds  float64 // that all of them took
	Took     Histogram
}

// Add puts another sum on top.
func (s *Sum) Add(other *Sum) {
	s.Requests += other.Requests
	s.Failed += other.Failed
	s.Seconds += other.Seconds
	s.Took.Add(&other.Took)
}

// MarshalJSON writes it as short as it goes: [requests, failed, seconds, counts …],
// without the zeros at the end.
func (s Sum) MarshalJSON() ([]byte, error) {
	list := []any{s.Requests, s.Failed, math.Round(s.Seconds*1e6) / 1e6}
	last := Buckets
	for last > 0 && s.Took[last-1] == 0 {
		last--
	}
	for _, n := range s.Took[:last] {
		list = append(list, n)
	}
	return json.Marshal(list)
}

// errReport: no node could have written it.
var errReport = errors.New("malformed report of traffic")

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Sum) UnmarshalJSON(data []byte) error {
	var list []float64
	if err := json.Unmarshal(data, &list); err != nil || len(list) < 3 || len(list) > 3+Buckets {
		return errReport
	}
	for _, v := range list {
		if !(v >= 0 && v <= math.MaxUint32) {
			return errReport
		}
	}
	*s = Sum{Requests: uint32(list[0]), Failed: uint32(list[1]), Seconds: list[2]}
	for i, n := range list[3:] {
		s.Took[i] = uint32(n)
	}
	return nil
}

// Report is one node's word.
type Report struct {
	Node    string                     `json:"node"`
	Tenants map[shardmap.TenantID]*Sum `json:"tenants"`
}

// Encode writes a report for the wire.
func (r Report) Encode() ([]byte, error) { return json.Marshal(r) }

// Decode reads a report, or refuses it.
func Decode(data []byte) (Report, error) {
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return Report{}, fmt.Errorf("%w: %w", errReport, err)
	}
	if r.Node == "" || len(r.Node) > 200 || len(r.Tenants) > MostTenants {
		return Report{}, errReport
	}
	for tenant, sum := range r.Tenants {
		if _, err := shardmap.ParseTenantID(string(tenant)); err != nil || sum == nil {
			return Report{}, errReport
		}
	}
	return r, nil
}
