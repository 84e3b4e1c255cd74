package publish

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/access"
)

const relayBatch = 1000

// relay publishes what the outbox names, until ctx ends.
func (p *Publisher) relay(ctx context.Context, changed <-chan struct{}) {
	failures := 0
	for ctx.Err() == nil {
		n, err := p.drain(ctx)
		wait := pollEvery
		switch {
		case err != nil:
			failures++
			wait = 100 * time.Millisecond << min(failures, 5)
			wait = wait/2 + rand.N(wait/2) //nolint:gosec // jitter
			if failures == 1 && ctx.Err() == nil {
				p.opt.Logger.WarnContext(ctx, "changes wait to be published", slog.Any("error", err))
			}
		case n == relayBatch:
			failures, wait = 0, 0
		default:
			failures = 0
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(wait):
		}
	}
}

// drain publishes the newest state of what the oldest rows of the outbox name,
// then takes the rows away. It returns how many rows that were. A publisher
// that dies in between leaves the rows, and what they name is published again.
func (p *Publisher) drain(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var ids []int64
	keys := map[string]map[string]bool{}
	for _, t := range topics {
		keys[t.name] = map[string]bool{}
	}
	// Rows of a topic that only a later version knows are left to it, and the
	// document that says that a bucket is filled to those who fill it.
	rows, err := p.store.Pool().Query(ctx, `select id, topic, key from outbox
		where topic = any($1) and ($2 or (topic, key) <> ($3, $4)) order by id limit $5`,
		slices.Collect(maps.Keys(keys)), p.isFilled(), accessTopic.name, access.FleetKey, relayBatch)
	if err != nil {
		return 0, catalog.Classify(err)
	}
	var id int64
	var topic, key string
	_, err = pgx.ForEachRow(rows, []any{&id, &topic, &key}, func() error {
		ids = append(ids, id)
		keys[topic][key] = true
		return nil
	})
	if err != nil || len(ids) == 0 {
		return 0, catalog.Classify(err)
	}
	b, err := p.buckets(ctx)
	if err != nil {
		return 0, err
	}
	for _, t := range topics {
		var items []item
		for key := range keys[t.name] {
			i, err := t.get(ctx, p.store, key)
			if err != nil {
				return 0, err
			}
			items = append(items, i)
		}
		if err := b[t].putAll(ctx, items); err != nil {
			return 0, p.unavailable(err)
		}
	}
	if _, err := p.store.Pool().Exec(ctx, `delete from outbox where id = any($1)`, ids); err != nil {
		return 0, fmt.Errorf("outbox: %w", catalog.Classify(err))
	}
	return len(ids), nil
}
