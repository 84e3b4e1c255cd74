package publish

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

// reconcile compares catalog and buckets in full: at the start, when NATS is
// there again, when a bucket turns out to be missing or emptied, and every so often.
func (p *Publisher) reconcile(ctx context.Context, connected <-chan nats.Status, changed chan<- struct{}) {
	due := time.Now()
	var published map[*topic]int
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

// emptied tells whether a bucket is gone, or has lost what was published.
func (p *Publisher) emptied(ctx context.Context, published map[*topic]int) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	b, err := p.buckets(ctx)
	if err != nil {
		return true
	}
	for _, t := range topics {
		status, err := b[t].kv.Status(ctx)
		if err != nil || status.Values() < uint64(published[t]) { //nolint:gosec // a count
			return true
		}
	}
	_, err = p.heartbeats(ctx)
	return err != nil
}

// compare puts into the buckets what the catalog has newer, takes out of them
// what need not be there, and returns how many keys the catalog has.
func (p *Publisher) compare(ctx context.Context) (map[*topic]int, error) {
	b, err := p.buckets(ctx)
	if err != nil {
		return nil, err
	}
	published := map[*topic]int{}
	for _, t := range topics {
		if published[t], err = p.compareTopic(ctx, b[t]); err != nil {
			return nil, err
		}
	}
	p.fill(b)
	return published, nil
}

func (p *Publisher) compareTopic(ctx context.Context, b *bucket) (total int, err error) {
	inBucket, err := b.read(ctx)
	if err != nil {
		return 0, p.unavailable(err)
	}
	for page := (catalog.Page{Limit: 1000}); ; {
		items, next, err := b.list(ctx, p.store, page)
		if err != nil {
			return 0, err
		}
		n, err := p.refill(ctx, b, inBucket, items)
		if err != nil {
			return 0, err
		}
		total += n
		if page.After = next; next == "" {
			break
		}
	}
	if b.strict {
		for key, have := range inBucket { // what no item was for
			if err := p.remove(ctx, b, key, have); err != nil {
				return 0, p.unavailable(err)
			}
		}
	}
	return total, nil
}

// refill puts those of items that the bucket lacks, has older, or has garbled,
// and takes them out of inBucket. It returns how many are to stay in the bucket.
func (p *Publisher) refill(ctx context.Context, b *bucket, inBucket map[string]state, items []item) (stay int, err error) {
	var missing []item
	for _, i := range items {
		have, there := inBucket[i.key]
		delete(inBucket, i.key)
		if !i.empty {
			stay++
		}
		same := have.version == i.version && have.sum == maphash.Bytes(seed, i.value)
		switch {
		case i.empty && (!there || same):
			if err := p.remove(ctx, b, i.key, have); err != nil {
				return 0, p.unavailable(err)
			}
		case have.version > i.version:
			// The catalog decides, but no node would take an older epoch. Say it loudly.
			// (It may also be that the catalog moved on between the two looks.)
			p.opt.Logger.WarnContext(ctx, "bucket is ahead of the catalog", slog.String("bucket", b.kv.Bucket()),
				slog.String("key", i.key), slog.Int64("bucket_version", have.version), slog.Int64("catalog_version", i.version))
		case !same:
			missing = append(missing, i)
		}
	}
	if err := b.putAll(ctx, missing); err != nil {
		return 0, p.unavailable(err)
	}
	return stay, nil
}

// remove takes away a key that has been as it is for a while. Until then an
// empty document stays for its version: a publisher that read the document
// before, and is late, must not put that back.
func (p *Publisher) remove(ctx context.Context, b *bucket, key string, have state) error {
	if have.revision == 0 || time.Since(have.written) < p.opt.RemoveAfter {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := b.kv.Delete(ctx, key, jetstream.LastRevision(have.revision))
	if err != nil && !errors.Is(err, jetstream.ErrKeyExists) && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) { // it was written anew
		return fmt.Errorf("remove %s: %w", key, err)
	}
	return nil
}

// state is what is remembered of a key in a bucket.
type state struct {
	version  int64
	sum      uint64
	revision uint64
	written  time.Time
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
			if e.Operation() == jetstream.KeyValuePut {
				all[e.Key()] = state{b.version(e.Value()), maphash.Bytes(seed, e.Value()), e.Revision(), e.Created()}
			}
		}
	}
}
