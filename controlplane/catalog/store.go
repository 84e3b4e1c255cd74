package catalog

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrUnavailable: the catalog could not be reached, or dropped the connection
// (outage, failover). The same call may be tried again; whether a COMMIT that
// ended so took effect is unknown until the catalog is read.
var ErrUnavailable = errors.New("catalog is unavailable")

var errTODO = errors.New("not written yet")

// Migrate brings the catalog's schema up to this binary's. Several replicas
// may call it at once; one migrates, the others wait for it.
func Migrate(ctx context.Context, dsn string) error { return errTODO }

// Open connects to a migrated catalog. It fails if the catalog can't be reached now.
func Open(ctx context.Context, dsn string) (*Store, error) { return nil, errTODO }

// Close ends all connections. Nothing of the store may be in use any more.
func (s *Store) Close() {}

// Pool is for sibling packages that keep their own SQL (operation, publish, audit).
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// Tx runs fn in one transaction and commits if fn returned nil. fn's error comes
// back as it is; trouble with the catalog itself wraps [ErrUnavailable].
// fn must use tx for everything that belongs to the transaction.
func (s *Store) Tx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return errTODO
}

// Page asks for one page of a list.
type Page struct {
	After string // the cursor the page before returned; empty: from the start
	Limit int    // at most this many; 0: 100, and never more than 1000
}
