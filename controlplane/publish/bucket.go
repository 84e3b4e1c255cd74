package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// inFlight bounds how many puts are under way at once; JetStream stalls without a bound.
const inFlight = 64

// bucket is a KV bucket whose values carry a version; the newer always wins.
type bucket struct {
	*topic
	kv jetstream.KeyValue
}

// item is one key with its newest value.
type item struct {
	key     string
	version int64
	value   []byte
	// empty: the value says nothing but its version, and need not stay.
	empty bool
}

// put writes the item unless the bucket has as new a one. Any number of
// publishers may put at once: each write names the revision it replaces.
func (b *bucket) put(ctx context.Context, i item) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for {
		have, err := b.kv.Get(ctx, i.key)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
			_, err = b.kv.Create(ctx, i.key, i.value)
		case err != nil:
			return fmt.Errorf("get %s: %w", i.key, err)
		case b.version(have.Value()) > i.version, bytes.Equal(have.Value(), i.value):
			return nil
		default:
			_, err = b.kv.Update(ctx, i.key, i.value, have.Revision())
		}
		if err == nil {
			return nil
		}
		// Somebody else was quicker: each such loss means that the key went forward.
		if !errors.Is(err, jetstream.ErrKeyExists) && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			return fmt.Errorf("put %s: %w", i.key, err)
		}
	}
}

// putAll puts many items, a bounded number at once. The first error ends it.
func (b *bucket) putAll(ctx context.Context, items []item) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for _, i := range items {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return b.put(ctx, i) })
	}
	return g.Wait()
}
