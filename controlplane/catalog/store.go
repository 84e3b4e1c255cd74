package catalog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freehold-db/freehold/internal/pg"
)

const (
	connectTimeout = 5 * time.Second
	// statementTimeout bounds every statement of the catalog, at the server.
	statementTimeout = 30 * time.Second
	poolConnections  = 20
)

// Open connects to a migrated catalog. It fails if the catalog can't be reached now.
func Open(ctx context.Context, dsn string) (*Store, error) {
	cfg, err := pg.PoolConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err) // pgx leaves the password out of it
	}
	if !strings.Contains(dsn, "pool_max_conns") {
		cfg.MaxConns = poolConnections
	}
	cfg.ConnConfig.ConnectTimeout = connectTimeout
	params := cfg.ConnConfig.RuntimeParams
	setDefault(params, "application_name", "freehold-catalog") // none of those who are served on a server that it shares
	setDefault(params, "statement_timeout", fmt.Sprint(statementTimeout.Milliseconds()))
	setDefault(params, "idle_in_transaction_session_timeout", fmt.Sprint((2 * statementTimeout).Milliseconds()))
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", Classify(err))
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("catalog: %w", Classify(err))
	}
	return &Store{pool: pool}, nil
}

func setDefault(m map[string]string, key, value string) {
	if _, ok := m[key]; !ok {
		m[key] = value
	}
}

// Close ends all connections. Nothing of the store may be in use any more.
func (s *Store) Close() { s.pool.Close() }

// Pool is for sibling packages that keep their own SQL (operation, publish, audit).
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// ID names this catalog among others, for ever.
func (s *Store) ID(ctx context.Context) (string, error) {
	var id string
	err := s.pool.QueryRow(ctx, `select id::text from catalog_identity`).Scan(&id)
	return id, Classify(err)
}

// Tx runs fn in one transaction and commits if fn returned nil. fn's error comes
// back as it is; trouble with the catalog itself wraps [ErrUnavailable].
// fn must use tx for everything that belongs to the transaction.
func (s *Store) Tx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("catalog: begin: %w", Classify(err))
	}
	defer rollback(ctx, tx)
	if err := fn(ctx, tx); err != nil {
		if tx.Conn().IsClosed() {
			return unavailable(err)
		}
		return Classify(err)
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("catalog: commit: %w", translate(err))
	}
	return nil
}

// rollback ends a transaction that was not committed, also when the caller's
// context has ended; after a commit it does nothing.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
	defer cancel()
	_ = tx.Rollback(ctx) // a connection that can't roll back is closed by the pool
}

// Listen waits for notifications on channel until ctx ends, on a connection of
// its own, and calls wake with the payload of each. After every (re)connect it
// calls wake("") once, because what was sent meanwhile is lost.
func (s *Store) Listen(ctx context.Context, channel string, wake func(payload string)) {
	backoff := 50 * time.Millisecond
	for ctx.Err() == nil {
		if s.listenOnce(ctx, channel, wake) {
			backoff = 50 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff/2 + rand.N(backoff)): //nolint:gosec // jitter, no secret
		}
		backoff = min(2*backoff, 2*time.Second)
	}
}

func (s *Store) listenOnce(ctx context.Context, channel string, wake func(string)) (connected bool) {
	cfg := s.pool.Config()
	if err := cfg.BeforeConnect(ctx, cfg.ConnConfig); err != nil {
		return false
	}
	conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil {
		return false
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // it is given up either way
	}()
	if _, err := conn.Exec(ctx, "listen "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return false
	}
	wake("")
	for {
		// A half-open connection tells nothing; look at it now and then.
		waitCtx, cancel := context.WithTimeout(ctx, 30*time.Second)
		n, err := conn.WaitForNotification(waitCtx)
		idle := waitCtx.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			wake(n.Payload)
		case idle:
			pingCtx, cancel := context.WithTimeout(ctx, connectTimeout)
			err := conn.Ping(pingCtx)
			cancel()
			if err != nil {
				return true
			}
		default:
			return true
		}
	}
}

// Page asks for one page of a list.
type Page struct {
	After string // the cursor the page before returned; empty: from the start
	Limit int    // at most this many; 0: 100, and never more than 1000
}

// Rows is Limit with its default and bound applied.
func (p Page) Rows() int {
	if p.Limit <= 0 {
		return 100
	}
	return min(p.Limit, 1000)
}

// CutPage takes what a query for one row more than p.Rows returned, and splits off
// the cursor of the next page.
func CutPage[T any](p Page, items []T, cursor func(T) string) ([]T, string) {
	if n := p.Rows(); len(items) > n {
		return items[:n], cursor(items[n-1])
	}
	return items, ""
}
