package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// metrics are what one Go benchmark reported, by unit.
type metrics map[string]float64

// goBench runs benchmarks of a package and returns what each reported, by its
// name without "Benchmark" and the number of processors.
func goBench(ctx context.Context, pkg, pattern, benchtime string) (map[string]metrics, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchtime", benchtime, "-benchmem", "-timeout", "8m", pkg) //nolint:gosec // our own arguments
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }                                                                       // which go test passes on to the benchmark's servers
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test -bench %s %s: %w\n%s", pattern, pkg, err, tail(out))
	}
	found := parseBench(string(out))
	if len(found) == 0 {
		return nil, fmt.Errorf("go test -bench %s %s measured nothing\n%s", pattern, pkg, tail(out))
	}
	return found, nil
}

func tail(out []byte) []byte {
	const most = 4000
	out = bytes.TrimSpace(out)
	return out[max(0, len(out)-most):]
}

// parseBench reads the lines `BenchmarkName-2  N  value unit  value unit …`.
func parseBench(out string) map[string]metrics {
	found := map[string]metrics{}
	for line := range strings.SplitSeq(out, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(fields[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		m := metrics{}
		for i := 2; i+1 < len(fields); i += 2 {
			v, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				break
			}
			m[fields[i+1]] = v
		}
		if len(m) > 0 {
			found[name] = m
		}
	}
	return found
}

// shardMap reports what finding a tenant and a warm connection costs.
func (b *bench) shardMap(ctx context.Context, _ *fleet) error {
	hit, err := goBench(ctx, "./shardmap", "^BenchmarkHit$", "1s")
	if err != nil {
		return err
	}
	do, err := goBench(ctx, "./router", "^BenchmarkDo$", "1s")
	if err != nil {
		return err
	}
	r := &b.report
	r.title("Finding a tenant")
	r.atMost("shard map, hit", "ns", hit["Hit"]["ns/op"], 100, "of 10,000 tenants")
	r.atMost("  allocations", "", hit["Hit"]["allocs/op"], 0, "")
	r.plain("router, warm connection", figure(do["Do/serial"]["ns/op"], "ns"), figure(do["Do/serial"]["allocs/op"], "allocations")+"; with a look whether PgBouncer hung up (one system call)")
	return nil
}

// node reports a data-plane node against a bare handler, and what idle tenants cost it.
func (b *bench) node(ctx context.Context, _ *fleet) error {
	m, err := goBench(ctx, "./dataplane", "^Benchmark(AgainstBare|IdleTenants|Alone|DatabaseTLS)$", "1x")
	if err != nil {
		return err
	}
	r := &b.report
	r.title("A data-plane node against a bare net/http handler that sends the same batch through the same PgBouncer")
	for _, of := range []struct {
		name, what string
		least      float64
	}{{"key", "GET by key", 0.85}, {"page", "page of 20", 0.90}, {"insert", "insert", 0}} {
		for _, clients := range []int{16, 64} {
			v, ok := m[fmt.Sprintf("AgainstBare/%s/c=%d", of.name, clients)]
			if !ok {
				return fmt.Errorf("%s at %d clients was not measured", of.name, clients)
			}
			what := fmt.Sprintf("%s, %d clients", of.what, clients)
			rates := fmt.Sprintf("%.0f requests/s, bare %.0f", v["req/s"], v["bare-req/s"])
			times := fmt.Sprintf("%.1f ms, bare %.1f", v["p99-ms"], v["bare-p99-ms"])
			if of.least > 0 {
				r.atLeast(what, "×", v["×throughput"], of.least, rates)
			} else {
				r.plain(what, figure(v["×throughput"], "×"), rates)
			}
			r.plain("  median", figure(v["p50-ms"], "ms"), fmt.Sprintf("bare %.1f", v["bare-p50-ms"]))
			if of.name == "key" {
				r.atMost("  99th percentile", "×", v["×p99"], 1.25, times)
			} else {
				r.plain("  99th percentile", figure(v["×p99"], "×"), times)
			}
		}
	}
	for _, of := range []struct{ name, what string }{{"key", "a GET by key"}, {"page", "a page of 20"}, {"insert", "an insert"}} {
		v := m["AgainstBare/"+of.name+"/c=16"]
		sum := func(prefix string) (total float64, parts string) {
			here, bouncer, postgres := v[prefix+"cpu-µs/req"], v[prefix+"bouncer-µs/req"], v[prefix+"postgres-µs/req"]
			return here + bouncer + postgres, fmt.Sprintf("%.0f + %.0f + %.0f", here, bouncer, postgres)
		}
		ours, parts := sum("")
		theirs, bareParts := sum("bare-")
		r.plain("processor time of "+of.what, figure(ours, "µs"), fmt.Sprintf("server with client + PgBouncer + Postgres: %s; bare %.0f: %s", parts, theirs, bareParts))
	}
	key := m["AgainstBare/key/c=16"]
	r.plain("allocations of a GET by key", figure(key["allocs/req"], ""), fmt.Sprintf("bare %.0f; with the client's few", key["bare-allocs/req"]))
	if err := b.rivals(ctx); err != nil {
		return err
	}
	if err := b.shares(ctx, m["Alone"]["p50-ns"]); err != nil {
		return err
	}
	b.databaseTLS(m)
	idle := m["IdleTenants"]
	r.title("10,000 tenants that were served once and are idle")
	r.atMost("memory", "MB", idle["MB"], 20, "of the whole node: heap and stacks, after a collection, above a node without tenants")
	r.atMost("goroutines", "", idle["goroutines"], 0, "")
	r.atMost("connections", "", idle["connections"], 0, "")
	return nil
}

// rivals reports a node against other servers that do the same, where they are installed.
func (b *bench) rivals(ctx context.Context) error {
	r := &b.report
	r.title("A data-plane node against other servers, GET by key")
	var m map[string]metrics
	for _, of := range []struct {
		name, binary, how string
		least             float64
	}{
		{"PostgREST", "postgrest", "through the same PgBouncer, with a token", 3.5},
		{"pREST", "prestd", "straight to Postgres, without roles and tokens", 1},
	} {
		if _, err := exec.LookPath(of.binary); err != nil {
			r.plain(of.name, "not measured", of.binary+" is not installed")
			continue
		}
		if m == nil {
			var err error
			if m, err = goBench(ctx, "./dataplane", "^BenchmarkAgainstRivals$", "1x"); err != nil {
				return err
			}
		}
		for _, clients := range []int{16, 64} {
			v := m[fmt.Sprintf("AgainstRivals/%s/c=%d", of.name, clients)]
			r.atLeast(fmt.Sprintf("%s, %d clients", of.name, clients), "×", v["×throughput"], of.least,
				fmt.Sprintf("%.0f requests/s, theirs %.0f; it goes %s", v["req/s"], v["their-req/s"], of.how))
		}
	}
	return nil
}

// shares reports what parts of a request a node spends on what, of the time of
// one GET by key alone.
func (b *bench) shares(ctx context.Context, whole float64) error {
	r := &b.report
	r.title("The node's own work on a GET by key, and its share of the time until the answer")
	for _, part := range []struct{ what, pkg, name, note string }{
		{"authentication", "./dataplane/gateway/bearer", "Remembered", "a token that was verified before"},
		{"limits", "./dataplane/gateway/limit", "Pass", "rate, concurrency and queue, let pass at once"},
		{"parse", "./dataplane/rest/plan", "Parse/key", "the query string"},
		{"plan", "./dataplane/rest/plan", "Plan/key", "names resolved, SQL written"},
	} {
		top, _, _ := strings.Cut(part.name, "/")
		m, err := goBench(ctx, part.pkg, "^Benchmark"+top+"$", "200ms")
		if err != nil {
			return err
		}
		v := m[part.name]
		r.plain(part.what, figure(v["ns/op"]/1000, "µs"), fmt.Sprintf("%.1f %% of %.0f µs, %.0f allocations; %s", 100*v["ns/op"]/whole, whole/1000, v["allocs/op"], part.note))
	}
	return nil
}

// schemas reports what remembering tenants' schemas takes.
func (b *bench) schemas(ctx context.Context, _ *fleet) error {
	m, err := goBench(ctx, "./dataplane/rest/schema", "^Benchmark(CacheMemory|Lookup)$", "200ms")
	if err != nil {
		return err
	}
	v := m["CacheMemory"]
	r := &b.report
	r.title("The schemas of 10,000 tenants on 3 versions")
	r.plain("memory", figure(v["MB"], "MB"), fmt.Sprintf("%.0f bytes a tenant, %.0f KB a version of 20 to 30 tables", v["B/tenant"], v["KB/version"]))
	r.plain("  lookup", figure(m["Lookup"]["ns/op"], "ns"), figure(m["Lookup"]["allocs/op"], "allocations"))
	return nil
}

// databaseTLS reports what TLS to PgBouncer and Postgres costs.
func (b *bench) databaseTLS(m map[string]metrics) {
	r := &b.report
	r.title("A node whose links to PgBouncer and Postgres are by TLS, against one in plain text, in turns")
	for _, clients := range []int{1, 16} {
		v := m[fmt.Sprintf("DatabaseTLS/key/c=%d", clients)]
		r.plain(fmt.Sprintf("GET by key, %d clients", clients), figure(v["×throughput"], "×"), fmt.Sprintf("%.0f requests/s, plain %.0f", v["req/s"], v["plain-req/s"]))
		r.plain("  median", figure(v["p50-ms"], "ms"), fmt.Sprintf("plain %.2f", v["plain-p50-ms"]))
		r.plain("  processor time", figure(v["cpu-µs/req"]+v["bouncer-µs/req"]+v["postgres-µs/req"], "µs"),
			fmt.Sprintf("server with client + PgBouncer + Postgres: %.0f + %.0f + %.0f; plain %.0f + %.0f + %.0f", v["cpu-µs/req"], v["bouncer-µs/req"], v["postgres-µs/req"],
				v["plain-cpu-µs/req"], v["plain-bouncer-µs/req"], v["plain-postgres-µs/req"]))
	}
}
