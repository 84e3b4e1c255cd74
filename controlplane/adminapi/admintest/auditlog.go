package admintest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"iter"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

// lazyLog is a real audit log that most tests never need. What is in the
// outbox gets there when it is signed, see [lazyLog.Anchor].
type lazyLog struct {
	t     testing.TB
	store *catalog.Store

	once   sync.Once
	log    *audit.Log
	signer *proof.Signer

	mu     sync.Mutex
	signed []string
}

func (l *lazyLog) open() *audit.Log {
	l.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		dsn := pgtest.Database(l.t)
		require.NoError(l.t, audit.Migrate(ctx, dsn))
		var err error
		l.log, err = audit.Open(ctx, dsn)
		require.NoError(l.t, err)
		l.t.Cleanup(l.log.Close)
		origin, err := l.log.Origin(ctx)
		require.NoError(l.t, err)
		l.signer, err = proof.NewSigner(origin, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, ed25519.SeedSize)))
		require.NoError(l.t, err)
	})
	return l.log
}

// Anchor carries the outbox into the log and signs it.
func (l *lazyLog) Anchor(ctx context.Context) error {
	log := l.open()
	relayed, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- audit.Relay(relayed, l.store, log, slog.New(slog.DiscardHandler)) }()
	for waiting := -1; waiting != 0 && ctx.Err() == nil; time.Sleep(time.Millisecond) {
		if err := l.store.Pool().QueryRow(ctx, `select count(*) from audit_outbox`).Scan(&waiting); err != nil {
			break // and the log says what is wrong
		}
	}
	stop()
	if err := <-done; err != nil {
		return err
	}
	c, err := log.Sign(ctx, l.signer, proof.Checkpoint{})
	if err == nil && c.Size > 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.signed = append(l.signed, c.Note)
	}
	return err
}

// Witness remembers what was signed.
func (l *lazyLog) Witness() audit.Elsewhere { return l }

// Newest implements [audit.Elsewhere].
func (l *lazyLog) Newest(context.Context) iter.Seq2[proof.Line, error] {
	return func(func(proof.Line, error) bool) {}
}

// Upto implements [audit.Elsewhere]; what was signed was signed in order.
func (l *lazyLog) Upto(context.Context, int64) iter.Seq2[proof.Line, error] {
	l.mu.Lock()
	defer l.mu.Unlock()
	signed := append([]string(nil), l.signed...)
	return func(yield func(proof.Line, error) bool) {
		for _, s := range signed {
			if !yield(proof.Line{Anchor: &proof.Anchor{Name: "memory", Checkpoint: s}}, nil) {
				return
			}
		}
	}
}

// ListTenant is the log's.
func (o Outbox) ListTenant(ctx context.Context, tenant shardmap.TenantID, f audit.Filter, p catalog.Page) ([]audit.Entry, string, error) {
	return o.log.open().ListTenant(ctx, tenant, f, p)
}

// Latest is the log's.
func (o Outbox) Latest(ctx context.Context) (audit.Checkpoint, error) {
	return o.log.open().Latest(ctx)
}

// Keys are the log's.
func (o Outbox) Keys(ctx context.Context) (proof.Keys, error) { return o.log.open().Keys(ctx) }

// Inclusion is the log's.
func (o Outbox) Inclusion(ctx context.Context, position, size int64) (tlog.RecordProof, error) {
	return o.log.open().Inclusion(ctx, position, size)
}

// Extension is the log's.
func (o Outbox) Extension(ctx context.Context, older, newer int64) (tlog.TreeProof, error) {
	return o.log.open().Extension(ctx, older, newer)
}

// Export is the log's.
func (o Outbox) Export(ctx context.Context, sources audit.Witness, anchors audit.Elsewhere) iter.Seq2[proof.Line, error] {
	return o.log.open().Export(ctx, sources, anchors)
}
