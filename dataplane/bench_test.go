package dataplane_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	benchRows  = 10_000
	benchConns = 8
	benchRound = 700 * time.Millisecond // short turns, so that whatever else the machine does hits both, but long enough for queues to settle
	benchTurns = 10
)

// BenchmarkAgainstBare holds a whole node (token checked against the cache,
// limits, metrics on) against a bare net/http handler that sends the same batch
// (settings, role, one statement) through the same PgBouncer with as many
// connections. Both take turns in one process, so that only the ratio counts.
// The bars: GET by key at 0.85 × the throughput or more, its p99 at 1.25 × or
// less; a page of 20 at 0.90 × or more.
func BenchmarkAgainstBare(b *testing.B) {
	w := newWorld(b)
	w.tenant("acme", benchRows)
	node := w.node(func(c *dataplane.Config) {
		c.Router.TenantConns = benchConns
		c.RatePerTenant = 1e9
	})
	bare := newBare(b, w)
	tok := w.token("acme", "editor")
	var id atomic.Int64
	id.Store(benchRows)
	insert := func(path string) func() (string, string) {
		return func() (string, string) {
			return path, fmt.Sprintf(`{"id":%d,"owner":"acme","body":"%s"}`, id.Add(1), strings.Repeat("x", 100))
		}
	}
	get := func(path string, below int) func() (string, string) {
		return func() (string, string) { return fmt.Sprintf(path, 1+rand.IntN(below)), "" }
	}
	for _, of := range []struct {
		name         string
		ours, theirs func() (path, body string)
	}{
		{"key", get("/rest/v1/notes?id=eq.%d", benchRows), get("/key?id=%d", benchRows)},
		{"page", get("/rest/v1/notes?id=gt.%d&order=id&limit=20", benchRows-20), get("/page?id=%d", benchRows-20)},
		{"insert", insert("/rest/v1/notes"), insert("/insert")},
	} {
		for _, clients := range []int{16, 64} {
			b.Run(fmt.Sprintf("%s/c=%d", of.name, clients), func(b *testing.B) {
				sides := [2]side{{url: node.URL(), next: of.ours}, {url: bare, next: of.theirs}}
				for i := range sides {
					sides[i].bouncer, sides[i].postgres = w.shard.Bouncer.Pid(), w.shard.Postgres.Pid()
				}
				for turn := range benchTurns {
					sides[turn%2].fire(b, tok, clients)
					sides[1-turn%2].fire(b, tok, clients)
				}
				ours, theirs := &sides[0], &sides[1]
				b.ReportMetric(ours.rate(), "req/s")
				b.ReportMetric(theirs.rate(), "bare-req/s")
				b.ReportMetric(ours.rate()/theirs.rate(), "×throughput")
				p99, bareP99 := percentile(ours.latencies, 99), percentile(theirs.latencies, 99)
				p50, bareP50 := percentile(ours.latencies, 50), percentile(theirs.latencies, 50)
				b.ReportMetric(p50.Seconds()*1000, "p50-ms")
				b.ReportMetric(bareP50.Seconds()*1000, "bare-p50-ms")
				b.ReportMetric(float64(ours.mallocs)/float64(len(ours.latencies)), "allocs/req")
				b.ReportMetric(float64(theirs.mallocs)/float64(len(theirs.latencies)), "bare-allocs/req")
				for prefix, s := range map[string]*side{"": ours, "bare-": theirs} {
					b.ReportMetric(s.each(func(p processors) time.Duration { return p.here }), prefix+"cpu-µs/req")
					b.ReportMetric(s.each(func(p processors) time.Duration { return p.bouncer }), prefix+"bouncer-µs/req")
					b.ReportMetric(s.each(func(p processors) time.Duration { return p.postgres }), prefix+"postgres-µs/req")
				}
				b.ReportMetric(p99.Seconds()*1000, "p99-ms")
				b.ReportMetric(bareP99.Seconds()*1000, "bare-p99-ms")
				b.ReportMetric(p99.Seconds()/bareP99.Seconds(), "×p99")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// side is one of two servers under the same load, and what was measured of it.
type side struct {
	url       string
	next      func() (path, body string) // an empty body: GET
	latencies []time.Duration
	took      time.Duration
	mallocs   uint64 // of the whole process, the small client included
	turns     []processors
	bouncer   int // the process; 0: not to be looked at
	postgres  int // the first of the processes; 0: not to be looked at
}

// processors is the time that those who serve requests had of the processors, and for how many.
type processors struct {
	here, bouncer, postgres time.Duration
	requests                int
}

// processors tells what was used so far. What a backend that has ended used is forgotten.
func (s *side) processors() (p processors) {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // never fails for oneself
	p.here = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	p.requests = len(s.latencies)
	if s.bouncer == 0 {
		return p
	}
	p.bouncer = ran(strconv.Itoa(s.bouncer))
	backends, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.postgres, s.postgres))
	for pid := range strings.FieldsSeq(string(backends)) {
		p.postgres += ran(pid)
	}
	return p
}

// ran is how long a process of one thread ran; 0 where the system doesn't say.
func ran(pid string) time.Duration {
	text, _ := os.ReadFile("/proc/" + pid + "/schedstat")
	first, _, _ := strings.Cut(string(text), " ")
	ns, _ := strconv.ParseInt(first, 10, 64)
	return time.Duration(ns)
}

// each is what a request took of a part, in µs: the quartile of the quieter turns, for whoever
// uses the machine beside us makes the same work take longer.
func (s *side) each(part func(processors) time.Duration) float64 {
	var all []float64
	for i := 0; i+1 < len(s.turns); i += 2 { // before and after
		if n := s.turns[i+1].requests - s.turns[i].requests; n > 0 {
			all = append(all, (part(s.turns[i+1])-part(s.turns[i])).Seconds()*1e6/float64(n))
		}
	}
	slices.Sort(all)
	return all[len(all)/4]
}

func (s *side) rate() float64 { return float64(len(s.latencies)) / s.took.Seconds() }

func percentile(d []time.Duration, p int) time.Duration {
	slices.Sort(d)
	return d[(len(d)-1)*p/100]
}

// fire sends requests from so many clients, each on its own connection, for a
// round. The client is as small as it can be, for it shares the processors.
func (s *side) fire(b *testing.B, token string, clients int) {
	b.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	before := mallocs()
	s.turns = append(s.turns, s.processors())
	start := time.Now()
	for range clients {
		all.Go(func() {
			mine, err := s.client(token, start.Add(benchRound))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				b.Error(err)
			}
			s.latencies = append(s.latencies, mine...)
		})
	}
	all.Wait()
	s.took += time.Since(start)
	s.turns = append(s.turns, s.processors())
	s.mallocs += mallocs() - before
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// BenchmarkAlone is the time of one GET by key at a time through a whole node:
// what the shares of its parts are of.
func BenchmarkAlone(b *testing.B) {
	w := newWorld(b)
	w.tenant("acme", benchRows)
	node := w.node(func(c *dataplane.Config) { c.RatePerTenant = 1e9 })
	s := &side{url: node.URL(), next: func() (string, string) { return fmt.Sprintf("/rest/v1/notes?id=eq.%d", 1+rand.IntN(benchRows)), "" }}
	tok := w.token("acme", "editor")
	s.fire(b, tok, 1) // warm
	s.latencies = nil
	for range 10 {
		s.fire(b, tok, 1)
	}
	b.ReportMetric(float64(percentile(s.latencies, 50).Nanoseconds()), "p50-ns")
	b.ReportMetric(0, "ns/op")
}

func (s *side) client(token string, until time.Time) (latencies []time.Duration, err error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	var out []byte
	for now := time.Now(); now.Before(until); {
		path, body := s.next()
		method, content := "GET ", ""
		if body != "" {
			method, content = "POST ", fmt.Sprintf("\r\nContent-Type: application/json\r\nContent-Length: %d", len(body))
		}
		out = append(append(append(out[:0], method...), path...), " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "...)
		out = append(append(append(append(out, token...), content...), "\r\n\r\n"...), body...)
		if _, err := conn.Write(out); err != nil {
			return nil, err
		}
		if err := readAnswer(in, body == ""); err != nil {
			return nil, err
		}
		end := time.Now()
		latencies = append(latencies, end.Sub(now))
		now = end
	}
	return latencies, nil
}

func readAnswer(in *bufio.Reader, rows bool) error {
	length, first := -1, true
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 20")) {
			return fmt.Errorf("answer: %s", line)
		}
		first = false
		if len(line) == 0 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(v)); err != nil {
				return err
			}
		}
	}
	if length < 0 || rows && length < 3 {
		return errors.New("answer without rows or length")
	}
	_, err := in.Discard(length)
	return err
}

// newBare serves the same rows with nothing in between: no token, no limits, no
// dialect; only what any handler with roles and settings must do.
func newBare(b *testing.B, w *world) string {
	login, _, err := w.secrets.Get(b.Context(), secret.DatabaseAuth(w.database("acme")))
	require.NoError(b, err)
	cfg, err := w.shard.Channel.Config(w.shard.Host(), w.shard.BouncerPort(), w.database("acme"), login)
	require.NoError(b, err)
	pool := make(chan *pgconn.PgConn, benchConns)
	for range benchConns {
		conn, err := pgconn.ConnectConfig(b.Context(), &cfg.Config)
		require.NoError(b, err)
		b.Cleanup(func() { _ = conn.Close(context.Background()) })
		pool <- conn
	}
	const settings = `SELECT set_config('search_path', $1, true), set_config('role', $2, true), set_config('request.jwt.claims', $3, true),
		set_config('request.method', $4, true), set_config('request.path', $5, true), set_config('request.headers', $6, true)`
	const readOnly = settings + `, set_config('transaction_read_only', 'on', true)`
	params := func(method string) [][]byte {
		return [][]byte{[]byte(`"public"`), []byte(w.database("acme") + "_rw"), []byte(`{"tenant":"acme","role":"editor"}`), []byte(method), []byte("/notes"), []byte("{}")}
	}
	run := func(rw http.ResponseWriter, r *http.Request, settings, sql string, param []byte) (body []byte, ok bool) {
		conn := <-pool
		defer func() { pool <- conn }()
		batch := &pgconn.Batch{}
		batch.ExecParams(settings, params(r.Method), nil, nil, nil)
		batch.ExecParams(sql, [][]byte{param}, nil, nil, nil)
		results := conn.ExecBatch(r.Context(), batch)
		for results.NextResult() {
			rr := results.ResultReader()
			for rr.NextRow() {
				body = append(body[:0], rr.Values()[0]...)
			}
		}
		if err := results.Close(); err != nil {
			http.Error(rw, err.Error(), http.StatusInternalServerError)
			return nil, false
		}
		return body, true
	}
	read := func(sql string) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			body, ok := run(rw, r, readOnly, sql, []byte(r.URL.Query().Get("id")))
			if !ok {
				return
			}
			rw.Header().Set("Content-Type", "application/json")
			rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = rw.Write(body)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/key", read(`SELECT coalesce(json_agg(row_to_json(n)), '[]')::text FROM (SELECT * FROM notes WHERE id = $1::bigint) n`))
	mux.Handle("/page", read(`SELECT coalesce(json_agg(row_to_json(n)), '[]')::text FROM (SELECT * FROM notes WHERE id > $1::bigint ORDER BY id LIMIT 20) n`))
	mux.HandleFunc("/insert", func(rw http.ResponseWriter, r *http.Request) {
		row, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		const sql = `INSERT INTO notes (id, owner, body) SELECT id, owner, body FROM json_to_record($1::json) AS r(id bigint, owner text, body text)`
		if _, ok := run(rw, r, settings, sql, row); ok {
			rw.Header().Set("Content-Length", "0")
			rw.WriteHeader(http.StatusCreated)
		}
	})
	srv := httptest.NewServer(mux)
	b.Cleanup(srv.Close)
	return srv.URL
}

// BenchmarkIdleTenants has a node serve one request of each of 10,000 tenants,
// waits until their connections are reaped, and reports what they leave: tokens,
// limits, placements, logins and what is known of their schemas.
func BenchmarkIdleTenants(b *testing.B) {
	const tenants = 10_000
	w := newWorld(b)
	w.tenant("acme", 10)
	tokens := make([]string, tenants)
	for i := range tenants { // all of them in one database, for the node cannot tell
		id := shardmap.TenantID(fmt.Sprintf("tenant-%d", i))
		tokens[i] = w.token(id, "viewer")
		w.publish(shardmap.BucketPlacements, string(id), shardmap.Placement{Tenant: id, Shard: "s1", Database: w.database("acme"), Epoch: 1, State: shardmap.Active})
	}
	node := w.node(func(c *dataplane.Config) { c.Router.NodeConns, c.Router.IdleAfter = 4, 50*time.Millisecond })
	warm := do(b, http.MethodGet, node.URL()+"/rest/v1/notes?id=eq.1", w.token("acme", "viewer"), "")
	require.Equal(b, http.StatusOK, warm.status, warm.body)
	before := idleFootprint(b, node, 15*time.Second) // NATS, in this process too, forgets what was published
	for i := range tenants {
		a := do(b, http.MethodGet, node.URL()+"/rest/v1/notes?id=eq.1", tokens[i], "")
		require.Equal(b, http.StatusOK, a.status, a.body)
	}
	after := idleFootprint(b, node, 2*time.Second)
	runtime.KeepAlive(tokens)
	b.ReportMetric(float64(after.bytes-before.bytes)/1e6, "MB")
	b.ReportMetric(float64(max(0, after.goroutines-before.goroutines)), "goroutines")
	b.ReportMetric(float64(after.connections), "connections")
	b.ReportMetric(0, "ns/op")
}

// footprint is what this process holds while nobody asks anything of its node.
type footprint struct {
	bytes       int64 // heap and stacks
	goroutines  int
	connections int // of the node to shards
}

var connectionsGauge = regexp.MustCompile(`(?m)^\w*router_connections (\d+)$`)

// idleFootprint gives the node time to let go of what it does not need, and
// takes the least of what is seen.
func idleFootprint(b *testing.B, node *dataplane.Server, within time.Duration) footprint {
	b.Helper()
	least := footprint{bytes: math.MaxInt64, goroutines: math.MaxInt, connections: math.MaxInt}
	for until := time.Now().Add(within); time.Now().Before(until); {
		found := connectionsGauge.FindStringSubmatch(do(b, http.MethodGet, node.OpsURL()+"/metrics", "", "").body)
		require.Len(b, found, 2)
		n, err := strconv.Atoi(found[1])
		require.NoError(b, err)
		http.DefaultClient.CloseIdleConnections()
		time.Sleep(100 * time.Millisecond) // closed connections' goroutines end
		least.bytes = min(least.bytes, heldBytes())
		least.goroutines = min(least.goroutines, runtime.NumGoroutine())
		least.connections = min(least.connections, n)
	}
	return least
}

func heldBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse) //nolint:gosec // no exabytes
}
