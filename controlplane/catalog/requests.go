package catalog

import (
	"bytes"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Answer is what a request with a key was answered.
type Answer struct {
	Status int
	Body   []byte
}

type request struct {
	hash   []byte
	status *int
	body   []byte
}

func scanRequest(row pgx.CollectableRow) (request, error) {
	var r request
	err := row.Scan(&r.hash, &r.status, &r.body)
	return r, err
}

// BeginRequest claims key for actor's request with this hash of method, path
// and body. A nil answer and nil error: go on, then call FinishRequest or
// AbandonRequest. An answer: it was done before, send that again.
// Errors: ErrKeyReused (other hash), ErrBusy (still being worked on elsewhere;
// a claim that is not finished after a minute is taken over).
// Keys are forgotten after 24 hours.
func (s *Store) BeginRequest(ctx context.Context, actor, key string, hash []byte) (*Answer, error) {
	// Forgetting is done in passing, a few rows each time, so that nothing else need run.
	_, err := s.pool.Exec(ctx, `delete from idempotency_keys where (actor, key) in (
		select actor, key from idempotency_keys where begun_at < clock_timestamp() - interval '24 hours'
		order by begun_at limit 20 for update skip locked)`)
	if err != nil {
		return nil, fmt.Errorf("request key: %w", Classify(err))
	}
	tag, err := s.pool.Exec(ctx, `insert into idempotency_keys as k (actor, key, hash) values ($1, $2, $3)
		on conflict (actor, key) do update set begun_at = clock_timestamp()
		where k.hash = $3 and k.finished_at is null and k.begun_at < clock_timestamp() - interval '1 minute'`, actor, key, hash)
	if err != nil {
		return nil, fmt.Errorf("request key: %w", Classify(err))
	}
	if tag.RowsAffected() > 0 {
		return nil, nil
	}
	r, err := one(ctx, s.pool, scanRequest, `select hash, status, body from idempotency_keys where actor = $1 and key = $2`, actor, key)
	switch {
	case err != nil: // also when it was given back this very moment
		return nil, fmt.Errorf("request key: %w", err)
	case !bytes.Equal(r.hash, hash):
		return nil, ErrKeyReused
	case r.status == nil:
		return nil, fmt.Errorf("the first request with this key: %w", ErrBusy)
	}
	return &Answer{Status: *r.status, Body: r.body}, nil
}

// FinishRequest stores the answer.
func (s *Store) FinishRequest(ctx context.Context, actor, key string, hash []byte, a Answer) error {
	_, err := s.pool.Exec(ctx, `update idempotency_keys set status = $4, body = $5, finished_at = clock_timestamp()
		where actor = $1 and key = $2 and hash = $3 and finished_at is null`, actor, key, hash, a.Status, a.Body)
	if err != nil {
		return fmt.Errorf("request key: %w", Classify(err))
	}
	return nil
}

// AbandonRequest gives the claim back, so that the client may try again (answer was a 5xx).
func (s *Store) AbandonRequest(ctx context.Context, actor, key string, hash []byte) error {
	_, err := s.pool.Exec(ctx, `delete from idempotency_keys
		where actor = $1 and key = $2 and hash = $3 and finished_at is null`, actor, key, hash)
	if err != nil {
		return fmt.Errorf("request key: %w", Classify(err))
	}
	return nil
}
