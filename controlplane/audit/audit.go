// Package audit keeps the log of who did what in a database of its own:
// append-only, gap-free per source, held by a Merkle tree whose signed
// checkpoints are kept at places that who rewrites the database does not reach
// (package anchor). Records are born in the catalog's transactions and carried here.
//
// What the log can be held to, and how that is checked without this database
// or this program, is package proof's.
//
// Import law: of this module, audit imports shardmap, internal packages, controlplane/catalog and its own proof only.
package audit

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/pg"
)

//go:embed migrations/*.sql
var migrations embed.FS

// schemaVersion is that of the newest file of migrations.
const schemaVersion = 2

// stoppedAfter is how long a writer may do nothing in the middle of its work before the others go on without it.
const stoppedAfter = "10s"

// WriterRole is what a login needs to be a member of to add records, and all that it needs.
const WriterRole = "freehold_audit_writer"

var (
	// ErrDiverged: the source offers another record under a sequence that is in
	// the log already (its database was set back, say). Nothing is overwritten.
	ErrDiverged = errors.New("audit source and log disagree")
	// ErrTampered: the log is not what was signed, or its tree not of its records. Nothing more is signed.
	ErrTampered = errors.New("audit log was changed")
	// ErrSchema: the audit database is of another version, and the login may not migrate it.
	ErrSchema = errors.New("audit database needs a migration")
)

// Migrate brings the audit database's schema up to this binary's, and puts
// records of before the tree into it; safe for several replicas at once.
func Migrate(ctx context.Context, dsn string) error {
	err := catalog.MigrateTo(ctx, dsn, migrations)
	if err == nil {
		err = fill(ctx, dsn)
	}
	if err != nil {
		return fmt.Errorf("migrate audit database: %w", err)
	}
	return nil
}

// fill builds the tree over records that were there before it.
func fill(ctx context.Context, dsn string) error {
	l, err := Open(ctx, dsn)
	if err != nil {
		return err
	}
	defer l.Close()
	// Who has nothing to put in waits for no writer, which may be slow.
	if whole, err := l.grown(ctx); err != nil || whole {
		return err
	}
	return l.write(ctx, func(tx pgx.Tx) error {
		size, err := treeSize(ctx, tx)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `select entry from audit_log where position > $1 order by position`, size)
		if err != nil {
			return err
		}
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(texts) == 0 {
			return err
		}
		return grow(ctx, tx, size, texts)
	})
}

// grown tells whether every record is in the tree.
func (l *Log) grown(ctx context.Context) (whole bool, err error) {
	err = pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		size, err := treeSize(ctx, tx)
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, `select not exists (select from audit_log where position > $1)`, size).Scan(&whole)
	})
	return whole, err
}

// Log is the audit database. All methods are safe for concurrent use.
type Log struct {
	pool    *pgxpool.Pool
	trouble atomic.Pointer[error] // what keeps the relay of this process from carrying records
}

// Trouble is what keeps records from being carried into the log by this
// process's [Relay]; nil: nothing does, or none runs.
func (l *Log) Trouble() error {
	if err := l.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// Open connects to a migrated audit database. The login needs to be a member of [WriterRole].
func Open(ctx context.Context, dsn string) (*Log, error) {
	cfg, err := pg.PoolConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("audit database: %w", err) // pgx leaves the password out of it
	}
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("audit database: %w", catalog.Classify(err))
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("audit database: %w", catalog.Classify(err))
	}
	return &Log{pool: pool}, nil
}

// Close ends all connections.
func (l *Log) Close() { l.pool.Close() }

// Powers says what the login that the log was opened with could do to it.
type Powers struct {
	// Owner: it may change the schema, and so take away what makes the log append-only.
	Owner bool
	// Version of the schema; 0: there is none, or none that the login could use.
	Version int64
}

// Powers looks them up. Errors: catalog.ErrUnavailable.
func (l *Log) Powers(ctx context.Context) (p Powers, err error) {
	var readable bool // before the tree, nobody but the owner could read the version
	err = l.pool.QueryRow(ctx, `select has_schema_privilege(current_user, 'public', 'create'),
		coalesce(has_table_privilege(to_regclass('goose_db_version'), 'select'), false)`).Scan(&p.Owner, &readable)
	if err == nil && readable {
		err = l.pool.QueryRow(ctx, `select coalesce(max(version_id), 0) from goose_db_version where is_applied`).Scan(&p.Version)
	}
	if err != nil {
		return p, fmt.Errorf("audit database: %w", catalog.Classify(err))
	}
	return p, nil
}

// OpenAs opens the log for a replica of the control plane, whose login is
// dsn's. owner, if it is not empty, is the login that owns the database, and
// migrates it first; without it, dsn's own does if it may. Errors: [ErrSchema]
// if nobody may migrate and somebody should, catalog.ErrUnavailable.
func OpenAs(ctx context.Context, dsn, owner string) (*Log, Powers, error) {
	if owner != "" {
		if err := Migrate(ctx, owner); err != nil {
			return nil, Powers{}, err
		}
	}
	l, err := Open(ctx, dsn)
	if err != nil {
		return nil, Powers{}, err
	}
	p, err := l.Powers(ctx)
	if err == nil && owner == "" && p.Owner {
		if err = Migrate(ctx, dsn); err == nil {
			p.Version = schemaVersion
		}
	}
	if err == nil && p.Version < schemaVersion {
		err = fmt.Errorf("%w: it is at version %d, this program needs %d; start one replica with audit_owner_dsn", ErrSchema, p.Version, schemaVersion)
	}
	if err != nil {
		l.Close()
		return nil, p, err
	}
	return l, p, nil
}

// write runs fn in a transaction as the only writer, with the writer's rights and no more.
func (l *Log) write(ctx context.Context, fn func(pgx.Tx) error) error {
	tx, err := l.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = tx.Rollback(ctx) // nothing to do after a commit
	}()
	// The lock goes with the transaction, and that with a writer which was stopped in the middle.
	_, err = tx.Exec(ctx, `select pg_advisory_xact_lock(hashtext('freehold audit log')), set_config('role', $1, true),
		set_config('idle_in_transaction_session_timeout', $2, true)`, WriterRole, stoppedAfter)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}
