// Package audit keeps the log of who did what in a database of its own:
// append-only, gap-free per source, each record chained to the one before by
// SHA-256. Records are born in the catalog's transactions and carried here.
//
// Import law: of this module, audit imports shardmap, internal packages and controlplane/catalog only.
package audit

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/shardmap"
)

var errTODO = errors.New("not written yet")

// Migrate brings the audit database's schema up to this binary's; safe for several replicas at once.
func Migrate(ctx context.Context, dsn string) error { return errTODO }

// Log is the audit database. All methods are safe for concurrent use.
type Log struct{}

// Open connects to a migrated audit database.
func Open(ctx context.Context, dsn string) (*Log, error) { return nil, errTODO }

// Close ends all connections.
func (l *Log) Close() {}

// Entry is one record of the log.
type Entry struct {
	Position int64  // place in the chain, from 1, gap-free
	Source   string // the catalog it came from
	Sequence int64  // place in the source, from 1, gap-free
	Record   catalog.AuditRecord
	LoggedAt time.Time
	PrevHash []byte
	Hash     []byte
}

// Filter narrows a list; zero fields don't.
type Filter struct {
	Tenant        shardmap.TenantID
	Actor, Action string
	From, Until   time.Time
}

// List lists newest first. next is the cursor of the following page, empty after the last.
func (l *Log) List(ctx context.Context, f Filter, p catalog.Page) (entries []Entry, next string, err error) {
	return nil, "", errTODO
}

// Verification is what Verify found.
type Verification struct {
	Records  int64
	Head     []byte   // hash of the last record
	Problems []string // empty: the chain is sound
}

// Verify walks the whole chain: hashes, links, gaps.
func (l *Log) Verify(ctx context.Context) (Verification, error) { return Verification{}, errTODO }

// Relay carries the catalog's audit outbox into the log, each record exactly
// once, until ctx ends; then it returns nil. Any number of replicas may run it.
func Relay(ctx context.Context, store *catalog.Store, log *Log, logger *slog.Logger) error {
	return errTODO
}
