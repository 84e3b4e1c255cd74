package audit_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/internal/pgtest"
)

// A log of 100,000 records: carried in from the catalog, signed, read and checked.
func BenchmarkLog(b *testing.B) {
	const n = 100_000
	ctx, store, dsn := b.Context(), catalogtest.Open(b), pgtest.Database(b)
	require.NoError(b, audit.Migrate(ctx, dsn))
	log, err := audit.Open(ctx, dsn)
	require.NoError(b, err)
	defer log.Close()
	_, err = store.Pool().Exec(ctx, `insert into audit_outbox (record)
		select jsonb_build_object('Actor', jsonb_build_object('Name', 'operator' || i % 20, 'Role', 'operator', 'Reason', 'ticket ' || i, 'RequestID', gen_random_uuid(), 'Address', '192.0.2.1'),
			'Action', 'tenant.move', 'Object', 'tenant/t' || i % 1000, 'Tenant', 't' || i % 1000, 'Outcome', 'ok', 'TraceID', md5(i::text),
			'Time', clock_timestamp(), 'Details', jsonb_build_object('to', 's2', 'from', 's1'))
		from generate_series(1, $1) i`, n)
	require.NoError(b, err)
	for b.Loop() { // once: it is an experiment of its own
		began := time.Now()
		relayed, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- audit.Relay(relayed, store, log, quiet) }()
		for left := 1; left > 0; time.Sleep(5 * time.Millisecond) {
			require.NoError(b, store.Pool().QueryRow(ctx, `select count(*) from (select from audit_outbox limit 1) as o`).Scan(&left))
		}
		b.ReportMetric(n/time.Since(began).Seconds(), "append/s")
		stop()
		require.NoError(b, <-done)

		origin, err := log.Origin(ctx)
		require.NoError(b, err)
		signer := newSigner(b, origin)
		began = time.Now()
		_, err = log.Sign(ctx, signer, proof.Checkpoint{})
		require.NoError(b, err)
		b.ReportMetric(time.Since(began).Seconds()*1e3, "sign-ms")
		keys := proof.Keys{{Verifier: signer.VerifierKey()}}
		began = time.Now()
		r := proof.Verify(log.Export(ctx, audit.SourceOf(store), nil), keys)
		b.ReportMetric(time.Since(began).Seconds(), "verify-s")
		require.Empty(b, r.Problems)
		require.EqualValues(b, n, r.Records)
		var file bytes.Buffer
		began = time.Now()
		require.NoError(b, proof.Write(&file, log.Export(ctx, audit.SourceOf(store), nil)))
		b.ReportMetric(time.Since(began).Seconds(), "export-s")
		b.ReportMetric(float64(file.Len())/n, "export-B/record")
		began = time.Now()
		require.Empty(b, proof.Verify(proof.Read(&file), keys).Problems)
		b.ReportMetric(time.Since(began).Seconds(), "verify-file-s")
		began = time.Now()
		for i := range int64(100) {
			_, err := log.Inclusion(ctx, i*n/100+1, n)
			require.NoError(b, err)
		}
		b.ReportMetric(time.Since(began).Seconds()*1e3/100, "proof-ms")
		conn, err := pgx.Connect(ctx, dsn)
		require.NoError(b, err)
		var size int64
		require.NoError(b, conn.QueryRow(ctx, `select pg_total_relation_size('audit_log') + pg_total_relation_size('audit_tree')`).Scan(&size))
		require.NoError(b, conn.Close(ctx))
		b.ReportMetric(float64(size)/n, "B/record")
	}
}

// What the record adds to the transaction that makes a change.
func BenchmarkRecord(b *testing.B) {
	ctx, store := b.Context(), catalogtest.Open(b)
	catalogtest.AddShard(b, store, "s1")
	change := func(also func(ctx context.Context, tx pgx.Tx) error) time.Duration {
		began := time.Now()
		for range 50 {
			require.NoError(b, store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, `update shards set max_databases = max_databases + 1 where id = 's1'`); err != nil {
					return err
				}
				return also(ctx, tx)
			}))
		}
		return time.Since(began) / 50
	}
	none := func(context.Context, pgx.Tx) error { return nil }
	recorded := func(ctx context.Context, tx pgx.Tx) error { return store.AppendAudit(ctx, tx, record(1)) }
	var without, with time.Duration
	rounds := 0
	for b.Loop() { // in turns
		without += change(none)
		with += change(recorded)
		with += change(recorded)
		without += change(none)
		rounds += 2
	}
	b.ReportMetric(float64(without.Microseconds())/float64(rounds), "without-µs")
	b.ReportMetric(float64(with.Microseconds())/float64(rounds), "with-µs")
}
