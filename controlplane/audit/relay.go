package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

const (
	relayBatch = 500
	pollEvery  = 2 * time.Second
	callFor    = 30 * time.Second
)

// Relay carries the catalog's audit outbox into the log, each record exactly
// once, until ctx ends; then it returns nil. Any number of replicas may run it.
// A database that is away is waited out; the records are safe in the catalog meanwhile.
func Relay(ctx context.Context, store *catalog.Store, log *Log, logger *slog.Logger) error {
	if logger == nil {
		logger = slog.Default()
	}
	news := make(chan struct{}, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		store.Listen(ctx, "freehold_audit", func(string) {
			select {
			case news <- struct{}{}:
			default: // it is awake already
			}
		})
	})
	for failures := 0; ctx.Err() == nil; {
		n, err := carry(ctx, store, log)
		wait := pollEvery
		switch {
		case err != nil:
			if failures++; ctx.Err() == nil {
				log.trouble.Store(&err)
				level := slog.LevelWarn
				if errors.Is(err, ErrDiverged) || errors.Is(err, ErrTampered) { // nothing but somebody who looks into it helps
					level = slog.LevelError
				}
				logger.Log(ctx, level, "audit records wait in the catalog", slog.Any("error", err))
			}
			wait = 200 * time.Millisecond << min(failures, 6)
			wait = wait/2 + rand.N(wait/2) //nolint:gosec // jitter
		case n == relayBatch:
			failures, wait = 0, 0
			log.trouble.Store(nil)
		default:
			failures = 0
			log.trouble.Store(nil)
		}
		if err != nil {
			sleep(ctx, wait, nil) // a notification would only have it fail again
		} else {
			sleep(ctx, wait, news)
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration, news <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-news:
	case <-time.After(d):
	}
}

// carry numbers the records that have no number, brings the oldest into the
// log, and takes them out of the outbox. Whatever of it is done twice (by a
// replica, or after a crash between two of the steps) has no effect: the log
// knows the numbers it has.
func carry(ctx context.Context, store *catalog.Store, log *Log) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, callFor)
	defer cancel()
	var waiting bool
	if err := store.Pool().QueryRow(ctx, `select exists (select from audit_outbox)`).Scan(&waiting); err != nil || !waiting {
		return 0, catalog.Classify(err)
	}
	source, err := store.ID(ctx)
	if err != nil {
		return 0, err
	}
	if err := store.Tx(ctx, number); err != nil {
		return 0, err
	}
	rows, err := store.Pool().Query(ctx, `select sequence, record from audit_outbox
		where sequence is not null order by sequence limit $1`, relayBatch)
	if err != nil {
		return 0, catalog.Classify(err)
	}
	records, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n numbered, err error) {
		err = row.Scan(&n.sequence, &n.record)
		return n, err
	})
	if err != nil || len(records) == 0 {
		return 0, catalog.Classify(err)
	}
	if err := log.append(ctx, source, records); err != nil {
		return 0, fmt.Errorf("audit log: %w", catalog.Classify(err))
	}
	_, err = store.Pool().Exec(ctx, `delete from audit_outbox where sequence <= $1`, records[len(records)-1].sequence)
	if err != nil {
		return 0, catalog.Classify(err)
	}
	return len(records), nil
}

// number gives records without a number the next ones. The counter's row lock
// makes replicas do it one after the other, and a rollback leaves no gap.
func number(ctx context.Context, tx pgx.Tx) error {
	var last int64
	if err := tx.QueryRow(ctx, `select last from audit_sequence for update`).Scan(&last); err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, `update audit_outbox o set sequence = n.sequence
		from (select id, $1 + row_number() over (order by id) as sequence
			from (select id from audit_outbox where sequence is null order by id limit $2) as oldest) as n
		where o.id = n.id`, last, relayBatch)
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	_, err = tx.Exec(ctx, `update audit_sequence set last = $1`, last+tag.RowsAffected())
	return err
}
