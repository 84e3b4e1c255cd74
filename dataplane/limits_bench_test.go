package dataplane_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/shardmap"
)

// load is open-loop traffic of one tenant: requests begin by the clock, however
// long others take, and their times count from when they were due.
type load struct {
	url, token, path string
	perSecond        float64
	connections      int // requests beyond so many under way are counted as sent and not served

	good, refused, late atomic.Int64
	mu                  sync.Mutex
	latencies           []time.Duration // of the good ones
	queued              []time.Duration // of these, what was spent in the node's queues, where it tells
}

// run sends for a while, and returns when all is answered.
func (l *load) run(b testing.TB, lasts time.Duration) {
	b.Helper()
	due := make(chan time.Time, l.connections)
	var all sync.WaitGroup
	for range l.connections {
		all.Go(func() {
			for at := range due { // a connection that a refusal ended is opened again
				if err := l.connection(at, due); err != nil {
					l.late.Add(1)
				}
			}
		})
	}
	gap := float64(time.Second) / l.perSecond
	start := time.Now()
	for at := gap * rand.ExpFloat64(); at < float64(lasts); at += gap * rand.ExpFloat64() {
		next := start.Add(time.Duration(at))
		time.Sleep(time.Until(next))
		select {
		case due <- next:
		default:
			l.late.Add(1)
		}
	}
	close(due)
	all.Wait()
}

func (l *load) connection(first time.Time, due <-chan time.Time) error {
	conn, err := net.Dial("tcp", strings.TrimPrefix(l.url, "http://"))
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	request := []byte("GET " + l.path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + l.token + "\r\n\r\n")
	for at, ok := first, true; ok; at, ok = <-due {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		status, queued, err := readStatus(in)
		if err != nil {
			return err
		}
		switch took := time.Since(at); {
		case status != http.StatusOK:
			l.refused.Add(1)
		default:
			l.good.Add(1)
			l.mu.Lock()
			l.latencies = append(l.latencies, took)
			l.queued = append(l.queued, queued)
			l.mu.Unlock()
		}
	}
	return nil
}

func readStatus(in *bufio.Reader) (status int, queued time.Duration, err error) {
	length := -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case status == 0:
			if len(line) < 12 {
				return 0, 0, errors.New("no status line")
			}
			status, err = strconv.Atoi(string(line[9:12]))
		case len(line) == 0:
			if length < 0 {
				return 0, 0, errors.New("answer without a length")
			}
			_, err = io.CopyN(io.Discard, in, int64(length))
			return status, queued, err
		default:
			if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				length, err = strconv.Atoi(string(v))
			}
			if _, v, ok := bytes.Cut(line, []byte("queue;dur=")); ok {
				text, _, _ := bytes.Cut(v, []byte(","))
				queued, err = time.ParseDuration(string(text) + "ms")
			}
		}
		if err != nil {
			return 0, 0, err
		}
	}
}

// heavy reads all rows and finds none, which costs Postgres some milliseconds.
const heavy = "/rest/v1/notes?select=id&body=match.x%7B50%7D.*y&limit=1"

// flooding names what a process of this test's binary is to send; see [TestFloodOfABenchmark].
const flooding = "FREEHOLD_BENCH_FLOOD"

// floodFromElsewhere is a load in a process of its own, which gets a processor when nobody
// else wants it: a flood comes from elsewhere, and its clients are not to be in
// the way of those whose times are measured, nor is the start of their process.
// It begins when begin is called, which returns when all is answered.
func floodFromElsewhere(b *testing.B, l *load, lasts time.Duration) (begin func() (answered int64)) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run", "^TestFloodOfABenchmark$", "-test.v")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s %v %d %s", flooding, l.url, l.token, l.path, l.perSecond, l.connections, lasts))
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	lines := bufio.NewScanner(out)
	until := func(word string) (rest string) {
		for lines.Scan() {
			if _, rest, ok := strings.Cut(lines.Text(), word); ok {
				return rest
			}
		}
		b.Errorf("flood: no %q", word)
		return ""
	}
	until("ready")
	return func() (answered int64) {
		_, err := fmt.Fprintln(in, "go")
		if err == nil {
			_, err = fmt.Sscan(until("answered "), &answered)
		}
		for lines.Scan() { // to its end
		}
		if err := errors.Join(err, cmd.Wait()); err != nil {
			b.Errorf("flood: %v", err)
		}
		return answered
	}
}

// TestFloodOfABenchmark is no test, but the other end of [floodFromElsewhere].
func TestFloodOfABenchmark(t *testing.T) {
	what := os.Getenv(flooding)
	if what == "" {
		t.Skip("for BenchmarkFlood")
	}
	const idlest = 19
	require.NoError(t, syscall.Setpriority(syscall.PRIO_PROCESS, 0, idlest))
	var l load
	var lasts string
	_, err := fmt.Sscan(what, &l.url, &l.token, &l.path, &l.perSecond, &l.connections, &lasts)
	require.NoError(t, err)
	d, err := time.ParseDuration(lasts)
	require.NoError(t, err)
	fmt.Println("ready")
	_, err = fmt.Scanln(new(string))
	require.NoError(t, err)
	l.run(t, d)
	fmt.Println("answered", l.good.Load()+l.refused.Load())
}

// BenchmarkFlood measures the 99th percentile of ten tenants with moderate
// traffic, without and with one that sends many times what Postgres can do for it, in turns;
// and, as what nobody could call a flood, with that one sending as many of the same
// requests as one connection has answered without haste.
func BenchmarkFlood(b *testing.B) {
	w := newWorld(b)
	const tenants = 10
	var tokens []string
	for i := range tenants + 1 {
		name := fmt.Sprintf("tenant-%d", i)
		w.tenant(shardmap.TenantID(name), 1000)
		tokens = append(tokens, w.token(shardmap.TenantID(name), "viewer"))
	}
	n := w.node(func(c *dataplane.Config) { c.Log, c.ServerTiming = slog.New(slog.DiscardHandler), true })
	const path = "/rest/v1/notes?id=eq.7"
	// As many connections and backends as a tenant may have, before it is
	// measured: else those that overlap open them, and the flood has more overlap.
	for _, token := range tokens {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 16 {
					do(b, http.MethodGet, n.URL()+heavy, token, "")
				}
			})
		}
		all.Wait()
		require.Equal(b, http.StatusOK, do(b, http.MethodGet, n.URL()+path, token, "").status)
	}
	quiet := func() []*load {
		var all []*load
		for _, token := range tokens[1:] {
			all = append(all, &load{url: n.URL(), token: token, path: path, perSecond: 20, connections: 16})
		}
		return all
	}
	const round, rounds = 2 * time.Second, 5
	var alone, beside, flooded, queued []time.Duration
	var answered, refused int64
	measure := func(with *load) (latencies, queued []time.Duration) {
		flood := func() int64 { return 0 }
		if with != nil {
			flood = floodFromElsewhere(b, with, round)
		}
		var all sync.WaitGroup
		ls := quiet()
		for _, l := range ls {
			all.Go(func() { l.run(b, round) })
		}
		answered = flood()
		all.Wait()
		for _, l := range ls {
			latencies, queued = append(latencies, l.latencies...), append(queued, l.queued...)
			refused += l.refused.Load() + l.late.Load()
		}
		return latencies, queued
	}
	var floods int64
	for range rounds {
		calm, _ := measure(nil)
		modest, _ := measure(&load{url: n.URL(), token: tokens[0], path: heavy, perSecond: 120, connections: 1})
		busy, waits := measure(&load{url: n.URL(), token: tokens[0], path: heavy, perSecond: 500, connections: 64})
		alone, beside = append(alone, calm...), append(beside, modest...)
		flooded, queued = append(flooded, busy...), append(queued, waits...)
		floods += answered
	}
	p99, p99f := percentile(alone, 99), percentile(flooded, 99)
	b.ReportMetric(p99.Seconds()*1000, "quiet-p99-ms")
	b.ReportMetric(p99f.Seconds()*1000, "flooded-p99-ms")
	b.ReportMetric(p99f.Seconds()/p99.Seconds(), "×p99")
	b.ReportMetric(percentile(beside, 99).Seconds()/p99.Seconds(), "×p99-modest")
	b.ReportMetric(percentile(flooded, 50).Seconds()/percentile(alone, 50).Seconds(), "×p50")
	b.ReportMetric(percentile(queued, 99).Seconds()*1000, "queued-p99-ms")
	b.ReportMetric(float64(floods)/(round*rounds).Seconds(), "flood/s")
	b.ReportMetric(float64(refused), "quiet-refused")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkSaturation finds what a node serves of requests that cost Postgres
// some milliseconds each, of ten tenants, and how much of that is left when
// 1, 2, 4 and 8 times as many come.
func BenchmarkSaturation(b *testing.B) {
	w := newWorld(b)
	const tenants = 10
	var tokens []string
	for i := range tenants {
		name := fmt.Sprintf("tenant-%d", i)
		w.tenant(shardmap.TenantID(name), 4000)
		tokens = append(tokens, w.token(shardmap.TenantID(name), "viewer"))
	}
	n := w.node(func(c *dataplane.Config) { c.Log = slog.New(slog.DiscardHandler) })
	const path = heavy
	for _, token := range tokens {
		for range 4 {
			require.Equal(b, http.StatusOK, do(b, http.MethodGet, n.URL()+path, token, "").status)
		}
	}
	offer := func(perSecond float64, lasts time.Duration) (goodPerSecond float64) {
		var all sync.WaitGroup
		ls := make([]*load, tenants)
		start := time.Now()
		for i := range ls {
			ls[i] = &load{url: n.URL(), token: tokens[i], path: path, perSecond: perSecond / tenants, connections: 200}
			all.Go(func() { ls[i].run(b, lasts) })
		}
		all.Wait()
		took := time.Since(start)
		var good int64
		for _, l := range ls {
			good += l.good.Load()
		}
		return float64(good) / took.Seconds()
	}
	// The peak: as much as four clients of each tenant get, each of whom asks
	// again as soon as it has its answer, over a connection that it keeps.
	var peak float64
	{
		var all sync.WaitGroup
		var served atomic.Int64
		const lasts = 4 * time.Second
		start := time.Now()
		for i := range 4 * tenants {
			all.Go(func() {
				l := load{url: n.URL(), token: tokens[i%tenants], path: path}
				due := make(chan time.Time)
				all.Go(func() {
					defer close(due)
					for time.Since(start) < lasts {
						select {
						case due <- time.Now():
						case <-time.After(lasts): // its connection is gone
						}
					}
				})
				_ = l.connection(time.Now(), due)
				served.Add(l.good.Load())
			})
		}
		all.Wait()
		peak = float64(served.Load()) / time.Since(start).Seconds()
	}
	best := peak
	rates := map[int]float64{}
	for _, times := range []int{1, 2, 4, 8} {
		rates[times] = offer(peak*float64(times), 5*time.Second)
		best = max(best, rates[times])
	}
	for times, rate := range rates { // nobody can serve more than comes
		b.ReportMetric(rate/min(best, peak*float64(times)), fmt.Sprintf("×goodput@%d", times))
	}
	b.ReportMetric(best, "peak/s")
	b.ReportMetric(0, "ns/op")
}
