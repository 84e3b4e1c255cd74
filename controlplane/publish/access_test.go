package publish_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/publish"
	wire "github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

var tester = catalog.Actor{Name: "tester"}

func accessOf(store *catalog.Store) *access.Service {
	return access.New(store, operation.New(store, operation.Options{Logger: slog.New(slog.DiscardHandler)}), nil, quiet)
}

// document is what the access bucket holds under a key; nil if nothing.
func (b *bus) document(key string) []byte { return b.value(wire.Bucket, key) }

func (b *bus) showsAccess(want wire.Tenant) {
	b.t.Helper()
	value, err := json.Marshal(want)
	require.NoError(b.t, err)
	require.Eventually(b.t, func() bool { return string(b.document(string(want.Tenant))) == string(value) }, time.Minute, 10*time.Millisecond)
}

func TestARevocationReachesAWatcher(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	store, b := catalogtest.Open(t), newBus(t)
	catalogtest.AddShard(t, store, "s1")
	catalogtest.AddTenant(t, store, "acme", "s1", 1)
	a := accessOf(store)
	// Committed while nobody publishes, as when a replica dies right after it.
	key, text, err := a.CreateKey(ctx, "acme", access.KeySpec{Role: "editor"}, tester)
	require.NoError(t, err)
	run(t, publish.New(store, b.nc, publish.Options{Logger: quiet}))
	run(t, publish.New(store, b.nc, publish.Options{Logger: quiet}))
	require.Eventually(t, func() bool { return b.document("acme") != nil && b.document(wire.FleetKey) != nil }, time.Minute, 10*time.Millisecond)
	kv, err := b.jetstream().KeyValue(ctx, wire.Bucket)
	require.NoError(t, err)
	watch, err := kv.Watch(ctx, "acme")
	require.NoError(t, err)
	_, err = a.RevokeKey(ctx, "acme", key.ID, tester)
	require.NoError(t, err)
	var last wire.Tenant
	for seen := int64(0); seen < 2; seen = last.Version {
		select {
		case <-ctx.Done():
			t.Fatal("the revocation does not come")
		case e := <-watch.Updates():
			if e == nil {
				continue
			}
			var next wire.Tenant
			require.NoError(t, json.Unmarshal(e.Value(), &next))
			require.Greater(t, next.Version, seen)
			if next.Version == 1 {
				require.True(t, next.Key(key.ID).Matches(text))
			}
			last = next
		}
	}
	require.Nil(t, last.Key(key.ID))

	require.NoError(t, a.SetPlan(ctx, "pro", wire.Limits{Rate: 7}, tester))
	require.Eventually(t, func() bool {
		var f wire.Fleet
		return json.Unmarshal(b.document(wire.FleetKey), &f) == nil && f.Plans["pro"].Rate == 7
	}, time.Minute, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		var left int
		require.NoError(t, store.Pool().QueryRow(ctx, `select count(*) from outbox`).Scan(&left))
		return left == 0
	}, time.Minute, 10*time.Millisecond)
}

func TestAccessIsRefilledAndClearedAway(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	store, b := catalogtest.Open(t), newBus(t)
	catalogtest.AddShard(t, store, "s1")
	a := accessOf(store)
	var all []wire.Tenant
	for i := range 10 {
		id := shardmap.TenantID(fmt.Sprintf("t%d", i))
		catalogtest.AddTenant(t, store, id, "s1", i)
		_, err := a.RevokeTokens(ctx, id, tester)
		require.NoError(t, err)
		doc, err := access.Document(ctx, store, id)
		require.NoError(t, err)
		all = append(all, doc)
	}
	run(t, publish.New(store, b.nc, publish.Options{Logger: quiet, ReconcileEvery: 200 * time.Millisecond, RemoveAfter: 300 * time.Millisecond}))
	for _, doc := range all {
		b.showsAccess(doc)
	}
	// NATS comes back with nothing. The fleet's document comes last.
	port := b.server.Port()
	b.stop()
	require.NoError(t, os.RemoveAll(b.dir))
	b.start(port)
	require.Eventually(t, func() bool { return b.document(wire.FleetKey) != nil }, 30*time.Second, time.Millisecond)
	for _, doc := range all {
		require.NotNil(t, b.document(string(doc.Tenant)), doc.Tenant)
	}

	// A document that says nothing any more, and one of nobody, go in time.
	attributes, none := map[string]string{"tier": "gold"}, map[string]string{}
	catalogtest.AddTenant(t, store, "plain", "s1", 100)
	for _, attributes := range []map[string]string{attributes, none} {
		doc, err := a.ChangeTenant(ctx, "plain", access.Change{Attributes: &attributes}, nil, tester)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			var have wire.Tenant
			return json.Unmarshal(b.document("plain"), &have) == nil && have.Version == doc.Version || doc.Version == 2 && b.document("plain") == nil
		}, time.Minute, 5*time.Millisecond)
	}
	kv, err := b.jetstream().KeyValue(ctx, wire.Bucket)
	require.NoError(t, err)
	_, err = kv.Put(ctx, "nobody", []byte(`{"tenant": "nobody", "version": 1}`))
	require.NoError(t, err)
	for _, key := range []string{"plain", "nobody"} {
		require.Eventually(t, func() bool {
			_, err := kv.Get(ctx, key)
			return errors.Is(err, jetstream.ErrKeyNotFound)
		}, time.Minute, 20*time.Millisecond, key)
	}
	doc, err := a.ChangeTenant(ctx, "plain", access.Change{Attributes: &attributes}, nil, tester)
	require.NoError(t, err)
	require.EqualValues(t, 3, doc.Version, "versions go on")
	require.Eventually(t, func() bool { return b.document("plain") != nil }, time.Minute, 10*time.Millisecond)
}
