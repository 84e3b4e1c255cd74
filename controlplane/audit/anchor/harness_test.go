package anchor_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/audit/anchor"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/internal/natsserver"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

// world is a log with its source and the places that witness it.
type world struct {
	t      *testing.T
	ctx    context.Context //nolint:containedctx // the test's
	store  *catalog.Store
	log    *audit.Log
	dsn    string // a superuser's
	key    ed25519.PrivateKey
	signer *proof.Signer
	nc     *nats.Conn
	js     jetstream.JetStream
	stream *anchor.Stream
	dir    string
	keeper *anchor.Keeper
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, store: catalogtest.Open(t), dsn: pgtest.Database(t), dir: t.TempDir()}
	require.NoError(t, audit.Migrate(ctx, w.dsn))
	var err error
	w.log, err = audit.Open(ctx, w.dsn)
	require.NoError(t, err)
	t.Cleanup(w.log.Close)
	origin, err := w.log.Origin(ctx)
	require.NoError(t, err)
	w.key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	w.signer, err = proof.NewSigner(origin, w.key)
	require.NoError(t, err)
	server, err := natsserver.Start(ctx, natsserver.Config{Dir: t.TempDir(), Log: quiet})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_ = server.Stop(ctx)
	})
	nc, err := nats.Connect(server.URL(), nats.Timeout(20*time.Second))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	w.js, err = jetstream.New(nc, jetstream.WithDefaultTimeout(time.Minute))
	require.NoError(t, err)
	w.nc = nc
	w.stream, err = anchor.NewStream(nc, anchor.StreamOptions{Replicas: 1, Logger: quiet})
	require.NoError(t, err)
	w.keeper = w.with(w.stream, anchor.Directory(w.dir))
	return w
}

func (w *world) with(places ...anchor.Place) *anchor.Keeper {
	return anchor.New(w.log, w.signer, func(context.Context) ([]anchor.Place, error) { return places, nil }, anchor.Options{Logger: quiet})
}

// write adds n records to the log, by way of the catalog, and anchors them.
func (w *world) write(n int) {
	w.t.Helper()
	var had int64
	require.NoError(w.t, w.super().QueryRow(w.ctx, `select count(*) from audit_log`).Scan(&had))
	for i := range n {
		catalogtest.Tx(w.t, w.store, func(ctx context.Context, tx pgx.Tx) error {
			return w.store.AppendAudit(ctx, tx, catalog.AuditRecord{
				Actor: catalog.Actor{Name: fmt.Sprintf("actor%d", i%2), Role: "operator", Reason: "why"}, Action: "tenant.move",
				Object: "tenant/acme", Tenant: shardmap.TenantID("acme"), Outcome: "ok"})
		})
	}
	ctx, stop := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() { done <- audit.Relay(ctx, w.store, w.log, quiet) }()
	require.Eventually(w.t, func() bool {
		var waiting int64
		return w.store.Pool().QueryRow(w.ctx, `select count(*) from audit_outbox`).Scan(&waiting) == nil && waiting == 0
	}, time.Minute, 5*time.Millisecond)
	stop()
	require.NoError(w.t, <-done)
	require.NoError(w.t, w.stream.Copy(w.ctx, w.log))
	require.NoError(w.t, w.keeper.Anchor(w.ctx))
}

func (w *world) verify(k *anchor.Keeper) proof.Report {
	w.t.Helper()
	return proof.Verify(w.log.Export(w.ctx, audit.SourceOf(w.store), k.Witness()), proof.Keys{{Verifier: w.signer.VerifierKey()}})
}

// super is a connection for which no trigger is in force.
func (w *world) super() *pgx.Conn {
	w.t.Helper()
	conn, err := pgx.Connect(w.ctx, w.dsn)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(w.ctx, `set session_replication_role = replica`)
	require.NoError(w.t, err)
	return conn
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	tag, err := w.super().Exec(w.ctx, sql, args...)
	require.NoError(w.t, err, sql)
	require.NotZero(w.t, tag.RowsAffected(), sql)
}

// edit changes the text of a record.
func (w *world) edit(position int64, fn func(leaf map[string]any)) {
	w.t.Helper()
	var text string
	require.NoError(w.t, w.super().QueryRow(w.ctx, `select entry from audit_log where position = $1`, position).Scan(&text))
	var leaf map[string]any
	require.NoError(w.t, json.Unmarshal([]byte(text), &leaf))
	fn(leaf)
	changed, err := json.Marshal(leaf)
	require.NoError(w.t, err)
	w.exec(`update audit_log set entry = $2 where position = $1`, position, string(changed))
}

// rebuild makes the tree anew over whatever records there are now.
func (w *world) rebuild() {
	w.t.Helper()
	conn := w.super()
	rows, err := conn.Query(w.ctx, `select entry from audit_log order by position`)
	require.NoError(w.t, err)
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w.t, err)
	_, err = conn.Exec(w.ctx, `delete from audit_tree`)
	require.NoError(w.t, err)
	var f proof.Frontier
	for i, text := range texts {
		for n, h := range f.Append(tlog.RecordHash([]byte(text))) {
			_, err := conn.Exec(w.ctx, `insert into audit_tree values ($1, $2)`, tlog.StoredHashIndex(0, int64(i))+int64(n), h[:])
			require.NoError(w.t, err)
		}
	}
}

// resign forgets all checkpoints and signs what there is now, as who has the key can.
func (w *world) resign() {
	w.t.Helper()
	_, err := w.super().Exec(w.ctx, `delete from audit_checkpoints`)
	require.NoError(w.t, err)
	_, err = w.log.Sign(w.ctx, w.signer, proof.Checkpoint{})
	require.NoError(w.t, err)
}
