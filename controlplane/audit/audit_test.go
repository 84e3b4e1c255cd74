package audit_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) {
	if env := os.Getenv(replicaEnv); env != "" {
		fmt.Fprintln(os.Stderr, mortalReplica(env))
		os.Exit(1)
	}
	pgtest.Main(m)
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func openLog(t testing.TB, dsn string) *audit.Log {
	t.Helper()
	log, err := audit.Open(testContext(t), dsn)
	require.NoError(t, err)
	t.Cleanup(log.Close)
	return log
}

func newLog(t testing.TB) (*audit.Log, string) {
	t.Helper()
	dsn := pgtest.Database(t)
	require.NoError(t, audit.Migrate(testContext(t), dsn))
	return openLog(t, dsn), dsn
}

func record(n int) catalog.AuditRecord {
	return catalog.AuditRecord{
		Actor:  catalog.Actor{Name: fmt.Sprintf("actor%d", n%2), Role: "operator", Reason: "because <it> was \"so\"", RequestID: "r", Address: "127.0.0.1"},
		Action: "tenant.create", Object: fmt.Sprintf("tenant/t%d", n), Tenant: shardmap.TenantID(fmt.Sprintf("t%d", n)), Outcome: "ok",
		TraceID: "abc", Details: json.RawMessage(`{"n":1,"text":"<&>"}`),
	}
}

func write(t testing.TB, store *catalog.Store, n int) {
	t.Helper()
	catalogtest.Tx(t, store, func(ctx context.Context, tx pgx.Tx) error { return store.AppendAudit(ctx, tx, record(n)) })
}

func relay(t testing.TB, store *catalog.Store, log *audit.Log, logger *slog.Logger) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := audit.Relay(ctx, store, log, logger); err != nil {
			t.Errorf("relay: %v", err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

// complaints is what a relay logs.
type complaints chan string

func (c complaints) Write(line []byte) (int, error) {
	select {
	case c <- string(line):
	default: // enough
	}
	return len(line), nil
}

func verify(t testing.TB, log *audit.Log, keys proof.Keys, sources audit.Witness, anchors audit.Elsewhere) proof.Report {
	t.Helper()
	return proof.Verify(log.Export(testContext(t), sources, anchors), keys)
}

// holds waits until the log has n records, and nothing about them disagrees.
func holds(t testing.TB, log *audit.Log, n int) proof.Report {
	t.Helper()
	var r proof.Report
	require.Eventually(t, func() bool {
		r = verify(t, log, nil, nil, nil)
		require.Empty(t, r.Problems)
		return r.Records >= int64(n)
	}, time.Minute, 10*time.Millisecond)
	require.EqualValues(t, n, r.Records)
	return r
}

func TestEveryRecordOnce(t *testing.T) {
	t.Parallel()
	store := catalogtest.Open(t)
	log, dsn := newLog(t)
	proxy := catalogtest.NewProxy(t, dsn)
	relay(t, store, log, quiet)
	relay(t, store, openLog(t, proxy.DSN), quiet) // another replica, on a bad line
	const n = 60
	for i := range n {
		if i%5 == 0 {
			proxy.CutAfter(1 + i%7)
			time.AfterFunc(20*time.Millisecond, proxy.Restore)
		}
		// What is rolled back leaves neither a record nor a gap.
		err := store.Tx(testContext(t), func(ctx context.Context, tx pgx.Tx) error {
			if err := store.AppendAudit(ctx, tx, record(-1)); err != nil {
				return err
			}
			return io.EOF
		})
		require.ErrorIs(t, err, io.EOF)
		write(t, store, i)
	}
	holds(t, log, n)
	require.Eventually(t, func() bool {
		var left int
		require.NoError(t, store.Pool().QueryRow(testContext(t), `select count(*) from audit_outbox`).Scan(&left))
		return left == 0
	}, time.Minute, 10*time.Millisecond)

	ctx := testContext(t)
	seen := map[string]bool{}
	position := int64(n)
	for page := (catalog.Page{Limit: 17}); ; {
		entries, next, err := log.List(ctx, audit.Filter{}, page)
		require.NoError(t, err)
		for _, e := range entries {
			require.Equal(t, position, e.Position)
			require.Equal(t, position, e.Sequence)
			require.False(t, seen[e.Record.Object])
			seen[e.Record.Object] = true
			require.False(t, e.Record.Time.IsZero())
			position--
		}
		if page.After = next; next == "" {
			break
		}
	}
	require.Len(t, seen, n)
	entries, _, err := log.List(ctx, audit.Filter{Tenant: "t7", Actor: "actor1", Action: "tenant.create", From: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)}, catalog.Page{})
	require.NoError(t, err)
	require.Len(t, entries, 1)
	want := record(7)
	want.Time = entries[0].Record.Time
	require.JSONEq(t, string(want.Details), string(entries[0].Record.Details))
	want.Details = entries[0].Record.Details
	require.Equal(t, want, entries[0].Record)
	_, _, err = log.List(ctx, audit.Filter{}, catalog.Page{After: "x"})
	require.ErrorIs(t, err, catalog.ErrNotFound)
}

func TestSourcesShareALog(t *testing.T) {
	t.Parallel()
	log, _ := newLog(t)
	for range 2 {
		store := catalogtest.Open(t)
		relay(t, store, log, quiet)
		for i := range 5 {
			write(t, store, i)
		}
	}
	holds(t, log, 10)
}

func TestOnlyAppends(t *testing.T) {
	t.Parallel()
	ctx, store := testContext(t), catalogtest.Open(t)
	log, dsn := newLog(t)
	relay(t, store, log, quiet)
	for i := range 6 {
		write(t, store, i)
	}
	root := holds(t, log, 6).Root
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	for _, sql := range []string{
		`update audit_log set entry = '{}'`, `delete from audit_log`, `truncate audit_log`,
		`insert into audit_log select 9, source, 9, logged_at, tenant, actor, action, happened, entry from audit_log limit 1`,
		`insert into audit_log select 7, source, 6, logged_at, tenant, actor, action, happened, entry from audit_log limit 1`,
		`update audit_tree set hash = decode(repeat('ab', 32), 'hex')`, `delete from audit_tree`,
		`truncate audit_checkpoints`, `delete from audit_checkpoints`, `update audit_keys set from_size = 1`, `update audit_identity set id = gen_random_uuid()`,
		`set role freehold_audit_writer; alter table audit_log disable trigger all`,
		`set role freehold_audit_writer; delete from audit_log`,
		`set role freehold_audit_writer; insert into audit_identity default values`,
	} {
		_, err := conn.Exec(ctx, sql)
		require.Error(t, err, sql)
		_, err = conn.Exec(ctx, `reset role`)
		require.NoError(t, err)
	}
	require.Equal(t, root, holds(t, log, 6).Root)
}

// A catalog set back to an earlier day offers other records under old numbers.
func TestDivergedSourceIsRefused(t *testing.T) {
	t.Parallel()
	ctx, store := testContext(t), catalogtest.Open(t)
	log, _ := newLog(t)
	stop := relay(t, store, log, quiet)
	write(t, store, 1)
	root := holds(t, log, 1).Root
	require.Eventually(t, func() bool { // the relay forgets a record only after the log has it
		var waiting int
		return store.Pool().QueryRow(ctx, `select count(*) from audit_outbox`).Scan(&waiting) == nil && waiting == 0
	}, time.Minute, 10*time.Millisecond)
	stop()
	_, err := store.Pool().Exec(ctx, `update audit_sequence set last = 0`)
	require.NoError(t, err)
	write(t, store, 2)
	complaints := make(complaints, 10)
	relay(t, store, log, slog.New(slog.NewTextHandler(complaints, nil)))
	select {
	case said := <-complaints:
		require.Contains(t, said, audit.ErrDiverged.Error())
	case <-ctx.Done():
		t.Fatal("the relay says nothing")
	}
	require.Equal(t, root, holds(t, log, 1).Root)
	var left int
	require.NoError(t, store.Pool().QueryRow(ctx, `select count(*) from audit_outbox`).Scan(&left))
	require.Equal(t, 1, left, "it is not lost either")
}

func newSigner(t testing.TB, origin string) *proof.Signer {
	t.Helper()
	s, err := proof.NewSigner(origin, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	require.NoError(t, err)
	return s
}
