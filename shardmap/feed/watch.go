package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/freehold-db/freehold/shardmap"
)

const (
	askFor     = 3 * time.Second // one question to JetStream
	checkEvery = 5 * time.Second // whether the bucket is still the one that is watched
)

// follow applies a bucket's content and then its changes, for ever: over a
// bucket that is not there yet, a connection that comes and goes, and a store
// that was lost and filled again. After each of these everything is read anew;
// the map takes what is newer.
func (f *Feed) follow(ctx context.Context, b *bucket) {
	var pace pacer
	said := ""
	for {
		again := f.onReconnect()
		err := f.watch(ctx, b, again, func() { pace.reset(); said = "" })
		if ctx.Err() != nil {
			return
		}
		if !quiet(err) && err.Error() != said {
			said = err.Error()
			f.cfg.Log.Warn("bucket cannot be followed; trying again", "bucket", b.name, "error", err)
		}
		if err != nil && !pace.wait(ctx, again) {
			return
		}
	}
}

// watch returns nil when it must be begun anew at once.
func (f *Feed) watch(ctx context.Context, b *bucket, again <-chan struct{}, good func()) error {
	kv, born, err := f.open(ctx, b.name)
	if err != nil {
		return err
	}
	b.kv.Store(&kv)
	b.sink.begin()
	w, err := kv.WatchAll(ctx, b.sink.options()...)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", b.name, err)
	}
	defer func() { _ = w.Stop() }()
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	for {
		select {
		case entry, ok := <-w.Updates():
			switch {
			case !ok:
				return fmt.Errorf("watch bucket %s: ended", b.name)
			case entry == nil: // all that was there has come
				b.sink.whole()
				b.synced.Store(true)
				good()
			case entry.Operation() != jetstream.KeyValuePut:
				b.sink.Drop(entry.Key())
			case !b.sink.Take(entry.Key(), entry.Value()):
				f.cfg.Log.Warn("malformed entry ignored", "bucket", b.name, "key", entry.Key())
			}
		case <-again:
			return nil
		case <-check.C:
			_, now, err := f.open(ctx, b.name)
			switch {
			case errors.Is(err, jetstream.ErrBucketNotFound):
				return err
			case err == nil && !now.Equal(born):
				return nil // made anew: the watch hears nothing of it
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// open finds a bucket, and when it was made.
func (f *Feed) open(ctx context.Context, name string) (jetstream.KeyValue, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	kv, err := f.js.KeyValue(ctx, name)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("bucket %s: %w", name, err)
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("bucket %s: %w", name, err)
	}
	info, ok := status.(*jetstream.KeyValueBucketStatus)
	if !ok {
		return kv, time.Time{}, nil
	}
	return kv, info.StreamInfo().Created, nil
}

// applyPlacement takes a placement in; false for a message that no control
// plane could have written. One that is late is well-formed and ignored.
func applyPlacement(m *shardmap.Map, key string, value []byte) bool {
	p, err := decodePlacement(value, shardmap.TenantID(key))
	if err != nil {
		return false
	}
	m.Apply(p)
	return true
}

func applyShard(m *shardmap.Map, key string, value []byte) bool {
	var s shardmap.Shard
	if json.Unmarshal(value, &s) != nil || string(s.ID) != key {
		return false
	}
	m.ApplyShard(s)
	return true
}

// decodePlacement refuses what is malformed or about another tenant.
func decodePlacement(value []byte, tenant shardmap.TenantID) (shardmap.Placement, error) {
	var p shardmap.Placement
	if err := json.Unmarshal(value, &p); err != nil {
		return shardmap.Placement{}, fmt.Errorf("placement of %s: %w", tenant, err)
	}
	if p.Tenant != tenant {
		return shardmap.Placement{}, fmt.Errorf("placement of %s is about another tenant", tenant)
	}
	return p, p.Validate()
}
