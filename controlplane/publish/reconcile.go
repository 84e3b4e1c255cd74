package publish

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

// reconcile compares catalog and buckets in full: at the start, when NATS is
// there again, when a bucket turns out to be missing or emptied, and every so often.
func (p *Publisher) reconcile(ctx context.Context, connected <-chan nats.Status, changed chan<- struct{}) {
	due := time.Now()
	var published int
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for ctx.Err() == nil {
		if !time.Now().Before(due) && p.nc.IsConnected() {
			n, err := p.compare(ctx)
			if err == nil {
				published, due = n, time.Now().Add(p.opt.ReconcileEvery)
			} else if ctx.Err() == nil {
				p.opt.Logger.WarnContext(ctx, "can't compare the buckets with the catalog", slog.Any("error", err))
				due = time.Now().Add(pollEvery)
			}
		}
		select {
		case <-ctx.Done():
		case _, open := <-connected: // its store may be another, or an empty one
			if !open { // somebody closed the connection for good
				connected = nil
			}
			p.forget()
			due = time.Now()
			wake(changed)
		case <-look.C:
			if p.emptied(ctx, published) {
				p.forget()
				due = time.Now()
			}
		case <-time.After(max(time.Until(due), pollEvery/10)):
		}
	}
}

// emptied tells whether a bucket is gone, or empty though something was published.
func (p *Publisher) emptied(ctx context.Context, published int) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	b, err := p.buckets(ctx)
	if err != nil {
		return true
	}
	var values uint64
	for _, bucket := range []*bucket{b.placements, b.shards} {
		status, err := bucket.kv.Status(ctx)
		if err != nil {
			return true
		}
		values += status.Values()
	}
	return values < uint64(published) //nolint:gosec // a count
}

// compare puts into the buckets what the catalog has newer, and returns how
// many keys the catalog has.
func (p *Publisher) compare(ctx context.Context) (int, error) {
	b, err := p.buckets(ctx)
	if err != nil {
		return 0, err
	}
	inBucket, err := b.shards.read(ctx)
	if err != nil {
		return 0, p.unavailable(err)
	}
	shards, err := p.store.ListShards(ctx)
	if err != nil {
		return 0, err
	}
	total := len(shards)
	err = refill(ctx, p, b.shards, inBucket, shards, func(s catalog.ShardUsage) (item, error) { return shardItem(s.Shard) })
	if err != nil {
		return 0, err
	}
	if inBucket, err = b.placements.read(ctx); err != nil {
		return 0, p.unavailable(err)
	}
	for page := (catalog.Page{Limit: 1000}); ; {
		placements, next, err := p.store.ListPlacements(ctx, page)
		if err != nil {
			return 0, err
		}
		total += len(placements)
		if err := refill(ctx, p, b.placements, inBucket, placements, placementItem); err != nil {
			return 0, err
		}
		if page.After = next; next == "" {
			return total, nil
		}
	}
}

// refill puts those of rows that the bucket lacks, has older, or has garbled.
func refill[T any](ctx context.Context, p *Publisher, b *bucket, inBucket map[string]state, rows []T, toItem func(T) (item, error)) error {
	var missing []item
	for _, row := range rows {
		i, err := toItem(row)
		if err != nil {
			return err
		}
		have := inBucket[i.key]
		switch {
		case have.version > i.version:
			// The catalog decides, but no node would take an older epoch. Say it loudly.
			// (It may also be that the catalog moved on between the two looks.)
			p.opt.Logger.WarnContext(ctx, "bucket is ahead of the catalog", slog.String("bucket", b.kv.Bucket()),
				slog.String("key", i.key), slog.Int64("bucket_version", have.version), slog.Int64("catalog_version", i.version))
		case have.version < i.version || have.sum != maphash.Bytes(seed, i.value):
			missing = append(missing, i)
		}
	}
	if err := b.putAll(ctx, missing); err != nil {
		return p.unavailable(err)
	}
	return nil
}

// state is what is remembered of a key in a bucket.
type state struct {
	version int64
	sum     uint64
}

var seed = maphash.MakeSeed()

// read reads a whole bucket.
func (b *bucket) read(ctx context.Context) (map[string]state, error) {
	watch, err := b.kv.WatchAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", b.kv.Bucket(), err)
	}
	defer func() { _ = watch.Stop() }() // nothing more is wanted of it
	all := map[string]state{}
	stalled := time.NewTimer(callTimeout)
	defer stalled.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-stalled.C:
			return nil, fmt.Errorf("read %s: %w", b.kv.Bucket(), context.DeadlineExceeded)
		case e, ok := <-watch.Updates():
			if !ok {
				return nil, fmt.Errorf("read %s: ended early", b.kv.Bucket())
			}
			if e == nil {
				return all, nil
			}
			stalled.Reset(callTimeout)
			all[e.Key()] = state{b.version(e.Value()), maphash.Bytes(seed, e.Value())}
		}
	}
}
