package dataplane_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
)

const (
	benchRows  = 10_000
	benchConns = 8
	benchRound = 300 * time.Millisecond // short turns, so that whatever else the machine does hits both
	benchTurns = 24
)

// BenchmarkGetByKey holds a whole node (token checked against the cache,
// limits, metrics on) against a bare net/http handler that sends the same batch
// (settings, role, one query) through the same PgBouncer with as many
// connections. Both take turns in one process, so that only the ratio counts.
// The bar: throughput of at least 0.85 ×, p99 of at most 1.25 ×.
func BenchmarkGetByKey(b *testing.B) {
	w := newWorld(b)
	w.tenant("acme", benchRows)
	node := w.node(func(c *dataplane.Config) {
		c.Router.TenantConns = benchConns
		c.RatePerTenant = 1e9
	})
	bare := newBare(b, w)
	tok := w.token("acme", "viewer")

	for _, page := range []struct {
		name         string
		ours, theirs func() string
		bar          string
	}{
		{"key", func() string { return fmt.Sprintf("/rest/v1/notes?id=eq.%d", 1+rand.IntN(benchRows)) },
			func() string { return fmt.Sprintf("/key?id=%d", 1+rand.IntN(benchRows)) }, "bar: ≥ 0.85 ×, p99 ≤ 1.25 ×"},
		{"page of 20", func() string {
			return fmt.Sprintf("/rest/v1/notes?id=gt.%d&order=id&limit=20", rand.IntN(benchRows-20))
		},
			func() string { return fmt.Sprintf("/page?id=%d", rand.IntN(benchRows-20)) }, "bar: ≥ 0.90 ×"},
	} {
		for _, clients := range []int{16, 64} {
			b.Run(fmt.Sprintf("%s/c=%d", strings.ReplaceAll(page.name, " ", "-"), clients), func(b *testing.B) {
				var ours, theirs []time.Duration
				var oursFor, theirsFor time.Duration
				for turn := range benchTurns {
					first, second := &ours, &theirs
					firstFor, secondFor := &oursFor, &theirsFor
					load := []func() ([]time.Duration, time.Duration){
						func() ([]time.Duration, time.Duration) { return fire(b, node.URL(), tok, clients, page.ours) },
						func() ([]time.Duration, time.Duration) { return fire(b, bare, tok, clients, page.theirs) },
					}
					if turn%2 == 1 {
						slices.Reverse(load)
						first, second, firstFor, secondFor = second, first, secondFor, firstFor
					}
					l, d := load[0]()
					*first, *firstFor = append(*first, l...), *firstFor+d
					l, d = load[1]()
					*second, *secondFor = append(*second, l...), *secondFor+d
				}
				rate := float64(len(ours)) / oursFor.Seconds()
				bareRate := float64(len(theirs)) / theirsFor.Seconds()
				p99, bareP99 := percentile(ours, 99), percentile(theirs, 99)
				b.ReportMetric(rate, "req/s")
				b.ReportMetric(bareRate, "bare-req/s")
				b.ReportMetric(rate/bareRate, "×throughput")
				b.ReportMetric(p99.Seconds()*1000, "p99-ms")
				b.ReportMetric(bareP99.Seconds()*1000, "bare-p99-ms")
				b.ReportMetric(p99.Seconds()/bareP99.Seconds(), "×p99")
				b.ReportMetric(0, "ns/op")
				b.Logf("%s", page.bar)
			})
		}
	}
}

func percentile(d []time.Duration, p int) time.Duration {
	slices.Sort(d)
	return d[(len(d)-1)*p/100]
}

// fire sends requests from so many clients, each on its own connection, for a
// round. The client is as small as it can be, for it shares the processors.
func fire(b *testing.B, url, token string, clients int, path func() string) (latencies []time.Duration, took time.Duration) {
	b.Helper()
	address := strings.TrimPrefix(url, "http://")
	var mu sync.Mutex
	var all sync.WaitGroup
	start := time.Now()
	for range clients {
		all.Go(func() {
			mine, err := client(address, token, start.Add(benchRound), path)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				b.Error(err)
			}
			latencies = append(latencies, mine...)
		})
	}
	all.Wait()
	return latencies, time.Since(start)
}

func client(address, token string, until time.Time, path func() string) (latencies []time.Duration, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	var out []byte
	for now := time.Now(); now.Before(until); {
		out = append(append(append(out[:0], "GET "...), path()...), " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "...)
		out = append(append(out, token...), "\r\n\r\n"...)
		if _, err := conn.Write(out); err != nil {
			return nil, err
		}
		if err := readAnswer(in); err != nil {
			return nil, err
		}
		end := time.Now()
		latencies = append(latencies, end.Sub(now))
		now = end
	}
	return latencies, nil
}

func readAnswer(in *bufio.Reader) error {
	length, first := -1, true
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
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
	if length < 3 {
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
	cfg, err := pg.Config(w.shard.Host(), w.shard.BouncerPort(), w.database("acme"), login)
	require.NoError(b, err)
	pool := make(chan *pgconn.PgConn, benchConns)
	for range benchConns {
		conn, err := pgconn.ConnectConfig(b.Context(), &cfg.Config)
		require.NoError(b, err)
		b.Cleanup(func() { _ = conn.Close(context.Background()) })
		pool <- conn
	}
	const settings = `SELECT set_config('search_path', $1, true), set_config('role', $2, true), set_config('request.jwt.claims', $3, true),
		set_config('request.method', $4, true), set_config('request.path', $5, true), set_config('request.headers', $6, true), set_config('transaction_read_only', 'on', true)`
	params := [][]byte{[]byte(`"public"`), []byte(w.database("acme") + "_ro"), []byte(`{"tenant":"acme","role":"viewer"}`), []byte("GET"), []byte("/notes"), []byte("{}")}
	serve := func(sql string) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			id := []byte(r.URL.Query().Get("id"))
			conn := <-pool
			defer func() { pool <- conn }()
			batch := &pgconn.Batch{}
			batch.ExecParams(settings, params, nil, nil, nil)
			batch.ExecParams(sql, [][]byte{id}, nil, nil, nil)
			results := conn.ExecBatch(r.Context(), batch)
			var body []byte
			for results.NextResult() {
				rr := results.ResultReader()
				for rr.NextRow() {
					body = append(body[:0], rr.Values()[0]...)
				}
			}
			if err := results.Close(); err != nil {
				http.Error(rw, err.Error(), http.StatusInternalServerError)
				return
			}
			rw.Header().Set("Content-Type", "application/json")
			rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = rw.Write(body)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/key", serve(`SELECT coalesce(json_agg(row_to_json(n)), '[]')::text FROM (SELECT * FROM notes WHERE id = $1::bigint) n`))
	mux.Handle("/page", serve(`SELECT coalesce(json_agg(row_to_json(n)), '[]')::text FROM (SELECT * FROM notes WHERE id > $1::bigint ORDER BY id LIMIT 20) n`))
	srv := httptest.NewServer(mux)
	b.Cleanup(srv.Close)
	return srv.URL
}
