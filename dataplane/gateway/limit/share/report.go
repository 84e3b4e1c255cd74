package share

import (
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"slices"

	"github.com/freehold-db/freehold/shardmap"
)

// maxDemands bounds a report's tenants: about 100 kB with the longest names.
const maxDemands = 1500

// Report is one node's word to the others.
type Report struct {
	// Node is who says it: unique in the fleet, and another one after a restart.
	Node string `json:"node"`
	// Demand is in requests per second; 0 takes back what was said before.
	Demand map[shardmap.TenantID]float64 `json:"demand,omitempty"`
	// More tells that there is demand which did not fit.
	More bool `json:"more,omitempty"`
}

// Encode writes a report for the wire.
func (r Report) Encode() ([]byte, error) { return json.Marshal(r) }

// errReport: no node could have written it.
var errReport = errors.New("malformed report of demand")

// Decode reads a report, or refuses it.
func Decode(data []byte) (Report, error) {
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return Report{}, errors.Join(errReport, err)
	}
	if r.Node == "" || len(r.Node) > 200 || len(r.Demand) > 3*maxDemands {
		return Report{}, errReport
	}
	for tenant, d := range r.Demand {
		if _, err := shardmap.ParseTenantID(string(tenant)); err != nil || math.IsNaN(d) || d < 0 || d > 1e9 {
			return Report{}, errReport
		}
	}
	return r, nil
}

// nearest returns the n tenants that are nearest to their limits, or furthest beyond.
func nearest(seen []Demand, n int) []Demand {
	slices.SortFunc(seen, func(a, b Demand) int { return cmp.Compare(b.Demand/b.Rate, a.Demand/a.Rate) })
	return seen[:n]
}
