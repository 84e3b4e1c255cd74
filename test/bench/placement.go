package main

import (
	"context"
	"fmt"
)

// placement reports what plans for made-up fleets of up to a million tenants
// cost and come to, beside other ways of balancing the same fleets.
func (b *bench) placement(ctx context.Context, _ *fleet) error {
	m, err := goBench(ctx, "./controlplane/balance/simulate", "^BenchmarkPlan$", "1x")
	if err != nil {
		return err
	}
	r := &b.report
	for _, size := range []struct {
		tenants int
		what    string
		worst   float64
		cases   []string
	}{
		{100, "100 tenants on 10 shards", 1.10, []string{"more-shards", "drain-one", "hot", "grown", "hashed"}},
		{1_000, "1,000 tenants on 10 shards", 1.05, []string{"more-shards", "drain-one", "hot", "grown", "hashed"}},
		{10_000, "10,000 tenants on 100 shards", 1.05, []string{"more-shards", "drain-one", "drain-some", "hot", "grown", "hashed", "mixed"}},
		{100_000, "100,000 tenants on 100 shards", 1.05, []string{"more-shards", "drain-one", "drain-some", "hot", "grown", "hashed", "mixed"}},
		{1_000_000, "1,000,000 tenants on 1,000 shards", 1.05, []string{"more-shards", "drain-one", "drain-some", "hot", "grown", "hashed", "mixed"}},
	} {
		r.title("Placement: " + size.what)
		for _, name := range size.cases {
			v, ok := m[fmt.Sprintf("Plan/t=%d/case=%s", size.tenants, name)]
			if !ok {
				return fmt.Errorf("%s of %s was not measured", name, size.what)
			}
			what := placementCases[name]
			// Rounded as the target is: a shard is filled up to its band.
			r.atMost(what+": fullest shard over the bound", "×", hundredths(v["×worst"]), size.worst,
				fmt.Sprintf("before %.2f; greedy by size %.2f, by count %.2f, hash ring %.2f", v["×before"], v["×rival0"], v["×rival1"], v["×rival2"]))
			note := fmt.Sprintf("%.0f moves, %.2f %% of the tenants", v["moves"], v["moved-%"])
			switch name {
			case "more-shards", "drain-one", "drain-some", "grown":
				r.atMost("  bytes moved over the least possible", "×", hundredths(v["×bytes"]), 1.10, note)
			default:
				r.plain("  bytes moved over the least possible", figure(v["×bytes"], "×"), note)
			}
			took := fmt.Sprintf("%.2f s of processor time", v["cpu-s"])
			if size.tenants < 1_000_000 {
				r.plain("  time", figure(v["s"]*1000, "ms"), took)
				continue
			}
			target := 1.0
			if name == "hashed" {
				target = 10
			}
			r.atMost("  time", "s", v["s"], target, took)
			r.atMost("  memory", "MB", v["fleet-MB"]+v["plan-MB"], 256, fmt.Sprintf("the fleet's %.0f, and all that was allocated on the way, freed or not", v["fleet-MB"]))
		}
	}
	return nil
}

// placementCases says what happened to the fleet.
var placementCases = map[string]string{
	"more-shards": "a tenth more shards",
	"drain-one":   "one shard drained",
	"drain-some":  "2 % drained",
	"hot":         "hot tenants on one shard in 20",
	"grown":       "one shard in 20 grown by half",
	"hashed":      "placed by hash before",
	"mixed":       "mixed fleet, a tenth more shards",
}

func hundredths(v float64) float64 { return float64(int(v*100+0.5)) / 100 }
