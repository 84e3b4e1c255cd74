package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/internal/problem"
)

func TestProgressIsOneLineForEachPhase(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	end := start.Add(1500 * time.Millisecond)
	running := func(percent float64, steps ...api.Step) api.Operation {
		return api.Operation{State: "running", Step: "copy", Steps: steps,
			Progress: api.Progress{Phase: "copying data", Percent: percent, BytesDone: int64(percent) * 1e6, BytesTotal: 1e8, BytesPerSecond: 5e7, ETASeconds: 1.5}}
	}
	preflight := api.Step{Step: "preflight", StartedAt: start, FinishedAt: &end, Attempt: 1}
	failed := api.Step{Step: "cutover", StartedAt: start, FinishedAt: &end, Attempt: 2, Error: "long\x1b[2J transaction"}
	done := api.Operation{State: "done", Steps: []api.Step{preflight, failed}}

	var log bytes.Buffer
	now := start
	p := &progress{out: &log, nowFunc: func() time.Time { return now }}
	for i := range 10 { // a second each: said when it is news, and every five seconds
		p.show(running(float64(i*10), preflight))
		now = now.Add(time.Second)
	}
	p.show(done)
	p.close()
	require.Equal(t, strings.TrimLeft(`
✓ preflight                        1.5s
· copying data                       0%  0 B of 100 MB  50 MB/s  about 1.5s left
· copying data                      50%  50 MB of 100 MB  50 MB/s  about 1.5s left
✗ cutover                          1.5s  try 2: long�[2J transaction
`, "\n"), log.String())

	var terminal bytes.Buffer
	p = &progress{out: &terminal, width: 40, nowFunc: time.Now}
	p.show(running(10))
	p.show(running(20, preflight))
	p.show(api.Operation{State: "failed", Error: "no room", Steps: []api.Step{preflight}})
	p.close()
	require.Equal(t, "\r\x1b[K· copying data                      10…"+
		"\r\x1b[K✓ preflight                        1.5s\n"+
		"\r\x1b[K· copying data                      20…"+
		"\r\x1b[K✗ failed: no room\n", terminal.String())
}

func TestPeopleSeeWhatIsWaitedFor(t *testing.T) {
	require.Contains(t, liveLine(api.Operation{State: "pending"}), "waiting for a worker")
	require.Contains(t, liveLine(api.Operation{State: "pending", Error: "it broke"}), "tried again soon: it broke")
	require.Contains(t, liveLine(api.Operation{State: "running", Progress: api.Progress{Waiting: "a transaction 5 s old"}}), "waiting for a transaction 5 s old")
	require.Contains(t, liveLine(api.Operation{State: "undoing", Step: "copy", CancelRequested: true}), "undo copy")
}

func TestReceipt(t *testing.T) {
	var out bytes.Buffer
	printReceipt(&out, api.Operation{Receipt: json.RawMessage(`{"pause_ms":12.345,"bytes":209000000,"verification":{"final":"equal"},"phases":[{"name":"copy","ms":3}],"notes":[],"warnings":["x"]}`)})
	require.Equal(t, `
receipt
  bytes                    209000000
  pause ms                 12.35
  phases
    - ms 3, name copy
  verification
    final                    equal
  warnings
    - x
`, out.String())
	out.Reset()
	for _, none := range []string{"", "null", "{}", "[1]"} {
		printReceipt(&out, api.Operation{Receipt: json.RawMessage(none)})
	}
	require.Empty(t, out.String())
}

func TestReceiptOfAMove(t *testing.T) {
	receipt, err := json.Marshal(move.Receipt{
		Tenant: "acme", From: "s1", To: "s2", Tables: 11, Bytes: 209e6, CopyMBPerS: 61.234, PauseMS: 19.23, MaxPauseMS: 500, AttachedPauseMS: 21.42,
		Phases: []move.Phase{{Name: "preflight", MS: 35}, {Name: "copy/rows", MS: 7}, {Name: "copy", MS: 3210}},
		Attempts: []move.Attempt{{Outcome: "flipped", HeldMS: 21.42, NodesDrained: 2, Nodes: 3,
			Clients: []move.NodeHold{{Node: "n1", Held: 120, LongestMS: 20.5}, {Node: "n2"}}}},
		Verification: move.Verification{Copy: move.Equal, Final: move.Equal, Tables: 11, Rows: 40000}, Notes: []string{"the source is kept"},
	})
	require.NoError(t, err)
	var out bytes.Buffer
	printReceipt(&out, api.Operation{Kind: move.Kind, Receipt: receipt})
	require.Equal(t, `
receipt
  moved         acme from s1 to s2
  copied        209 MB in 11 tables at 61.2 MB/s
  pause         19.2 ms of 500ms allowed; 21.4 ms for clients attached to PgBouncer
  verification  equal after the copy, equal at the cutover: 40000 rows in 11 tables
  phases        preflight 35.0 ms, copy 3.2s
  cutover       try 1: flipped; clients held for 21.4 ms, 2 of 3 nodes drained
                node n1: 120 requests waited, the longest for 20.5 ms
                node n2: no request waited
                1 of 3 nodes did not say what their requests saw
  note          the source is kept
`, out.String())
}

func TestReceiptOfAReverse(t *testing.T) {
	until := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	receipt, err := json.Marshal(move.Receipt{
		Tenant: "acme", From: "s2", To: "s1", Tables: 11, PauseMS: 19.23, MaxPauseMS: 500, AttachedPauseMS: 21.42, SoakUntil: &until,
		Verification: move.Verification{Copy: move.NotVerified, Final: move.Equal, Tables: 11, Rows: 40000},
	})
	require.NoError(t, err)
	var out bytes.Buffer
	printReceipt(&out, api.Operation{Kind: move.KindReverse, Receipt: receipt})
	require.Contains(t, out.String(), "nothing: 11 tables were kept in step\n")
	require.Contains(t, out.String(), "  equal at the cutover: 40000 rows in 11 tables\n")
	require.Contains(t, out.String(), "until 2026-01-02T03:04:05Z the tenant can be taken back\n")
}

func TestEveryErrorHasAStatusAndRefusalsAHint(t *testing.T) {
	refusal := func(status int) error {
		return fmt.Errorf("somewhere: %w", &client.Error{Problem: problem.New(status, "code", "detail", "do this")})
	}
	for status, want := range map[int]int{400: exitUsage, 401: exitRefused, 403: exitRefused, 404: exitNotFound, 409: exitRefused, 413: exitUsage, 422: exitRefused,
		429: exitUnavailable, 500: exitFailed, 502: exitUnavailable, 503: exitUnavailable} {
		var w bytes.Buffer
		require.Equal(t, want, report(&w, refusal(status)), "%d", status)
		require.Equal(t, "error: somewhere: detail\nhint: do this\n", w.String())
	}
	var w bytes.Buffer
	p := problem.New(400, "invalid_body", "wrong shape", "mend it").At("/to", "is not a shard").Param("cursor", "is none")
	require.Equal(t, exitUsage, report(&w, &client.Error{Problem: p}))
	require.Equal(t, "error: wrong shape\n  to is not a shard\n  cursor is none\nhint: mend it\n", w.String())
	require.Equal(t, exitFailed, report(&w, errors.New("x")))
}

func TestConnectionURLs(t *testing.T) {
	login := api.Access{Postgres: api.Endpoint{Host: "::1", Port: 5432}, Bouncer: api.Endpoint{Host: "/run/x y", Port: 6432}, Database: "t_1", User: "u", Password: "p@:/"}
	require.Equal(t, "postgresql://u:p%40%3A%2F@[::1]:5432/t_1", dsnOf(login, false, nil))
	require.Equal(t, "postgresql://u:p%40%3A%2F@/t_1?host=%2Frun%2Fx%20y&port=6432", dsnOf(login, true, nil))
	env := psqlEnv([]string{"PATH=/bin", "PGPASSWORD=x", "PGSERVICE=y", "PGTZ=UTC"}, login, "/tmp/p")
	require.Equal(t, []string{"PATH=/bin", "PGTZ=UTC", "PGHOST=::1", "PGPORT=5432", "PGDATABASE=t_1", "PGUSER=u", "PGPASSFILE=/tmp/p", "PGAPPNAME=tenant-ops", "PGCONNECT_TIMEOUT=10"}, env)
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 999_999: "1000 kB", 209_000_000: "209 MB", 1_700_000_000: "1.7 GB", 5_000_000_000_000: "5.0 TB"} {
		require.Equal(t, want, size(n))
	}
}

func TestPartsArePrintedAsAsked(t *testing.T) {
	parts := []partState{{Part: "nats", PID: 7, Address: "127.0.0.1:4222", Up: true}, {Part: "issuer", Address: "127.0.0.1:80", Error: "no answer"}}
	for f, want := range map[format]string{
		asTable: "PART    PID  ADDRESS         LINKS  STATE\nnats    7    127.0.0.1:4222  plain  up\nissuer       127.0.0.1:80    plain  down: no answer\n",
		asCSV:   "part,pid,address,links,state\nnats,7,127.0.0.1:4222,plain,up\nissuer,,127.0.0.1:80,plain,down: no answer\n",
		asYAML:  "- part: nats\n  pid: 7\n  address: 127.0.0.1:4222\n  tls: false\n  up: true\n- part: issuer\n  address: 127.0.0.1:80\n  tls: false\n  up: false\n  error: no answer\n",
	} {
		var out bytes.Buffer
		require.NoError(t, printItems(&out, f, parts, partColumns))
		require.Equal(t, want, out.String())
	}
}
