package main

import (
	"context"
	"fmt"
)

// limits reports what limits cost a request, how fair and how robust a busy
// node is, and how exactly nodes share a tenant's rate.
func (b *bench) limits(ctx context.Context, _ *fleet) error {
	r := &b.report
	admit, err := goBench(ctx, "./dataplane/gateway/limit", "^BenchmarkAdmit$", "1s")
	if err != nil {
		return err
	}
	r.title("Limits")
	r.atMost("a request that passes at once", "ns", admit["Admit/serial"]["ns/op"], 1000, figure(admit["Admit/serial"]["allocs/op"], "allocations"))
	shares, err := goBench(ctx, "./dataplane/gateway/limit", "^BenchmarkShareError$", "1x")
	if err != nil {
		return err
	}
	for _, load := range []struct{ name, what string }{{"under", "0.9 × the rate, evenly"}, {"steady", "2 × the rate, evenly"}, {"skewed", "2 × the rate, 9 in 10 at one node"}, {"shifting", "2 × the rate, at another node every 2 s"}} {
		text := ""
		for _, n := range []int{1, 2, 4, 8} {
			m, ok := shares[fmt.Sprintf("ShareError/%s/n=%d", load.name, n)]
			if !ok {
				return fmt.Errorf("share of %d nodes under %s load was not measured", n, load.name)
			}
			text += fmt.Sprintf("%+.1f %%  ", m["error-%"])
		}
		r.plain("share error, "+load.what, text, "at 1, 2, 4, 8 nodes, simulated: too much (+) or too little let pass in half a minute")
	}
	busy, err := goBench(ctx, "./dataplane", "^Benchmark(Flood|Saturation)$", "1x")
	if err != nil {
		return err
	}
	flood := busy["Flood"]
	r.atMost("others' 99th percentile while one tenant floods", "×", flood["×p99"], 1.5,
		fmt.Sprintf("%.1f ms, quiet %.1f; %.0f requests/s of the flood answered; median %.2f ×", flood["flooded-p99-ms"], flood["quiet-p99-ms"], flood["flood/s"], flood["×p50"]))
	r.plain("  of it spent in the node's queues", figure(flood["queued-p99-ms"], "ms"), "99th percentile, by Server-Timing: the rest is a matter of processors")
	r.atMost("  of their requests refused", "", flood["quiet-refused"], 0, "")
	r.plain("  while it sends 120 a second, one at a time", figure(flood["×p99-modest"], "×"), "the same requests from the same tenant as no flood")
	for _, times := range []int{1, 2, 4, 8} {
		r.atLeast(fmt.Sprintf("goodput at %d × saturation", times), "×", busy["Saturation"][fmt.Sprintf("×goodput@%d", times)], 0.9,
			fmt.Sprintf("of %.0f requests/s", busy["Saturation"]["peak/s"]))
	}
	return nil
}
