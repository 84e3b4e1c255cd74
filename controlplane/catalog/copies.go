package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// CopyState is the life of a sealed copy in our hands. What was handed out lives on elsewhere.
type CopyState string

const (
	CopyMaking CopyState = "making" // an export writes it, or somebody sends it; held or gone next
	CopyHeld   CopyState = "held"   // its file is whole; its expiry, its deletion or the tenant's erasure leaves it
	CopyGone   CopyState = "gone"   // final: WhyGone says why
)

// Where a copy came from.
const (
	CopyExported = "export" // made here
	CopyUploaded = "upload" // made here once, and sent back
)

// Copy is one sealed copy of a tenant's database.
type Copy struct {
	ID            string // UUIDv7
	Tenant        shardmap.TenantID
	State         CopyState
	Origin        string
	SealedAs      string // the ID in the file's header: that of the export
	File          string // its name in the directory of copies; empty until it is whole
	WhyGone       string
	Bytes         int64  // of the sealed file
	SHA256        string // of the sealed file, in hex
	LSN           string
	SchemaVersion int64
	TakenAt       *time.Time // the moment whose state it holds
	HandedOut     int        // how often its file was given to somebody
	CreatedBy     string
	CreatedAt     time.Time
	ExpiresAt     time.Time
	GoneAt        *time.Time
}

const copyColumns = `c.id::text, c.tenant, c.state, c.origin, c.sealed_as::text, c.file, c.why_gone, c.bytes, c.sha256, c.lsn, c.schema_version,
	c.taken_at, c.handed_out, c.created_by, c.created_at, c.expires_at, c.gone_at`

func scanCopy(row pgx.CollectableRow) (Copy, error) {
	var c Copy
	err := row.Scan(&c.ID, &c.Tenant, &c.State, &c.Origin, &c.SealedAs, &c.File, &c.WhyGone, &c.Bytes, &c.SHA256, &c.LSN, &c.SchemaVersion,
		&c.TakenAt, &c.HandedOut, &c.CreatedBy, &c.CreatedAt, &c.ExpiresAt, &c.GoneAt)
	return c, err
}

// BeginCopy records a copy in the making, to be held for keep. One of that ID
// that is being made is left as it is. Errors: ErrNotFound (tenant), ErrErased,
// ErrExists (a copy of that ID is held).
func (s *Store) BeginCopy(ctx context.Context, tx pgx.Tx, c Copy, keep time.Duration) error {
	if err := s.NotErased(ctx, tx, c.Tenant); err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, `insert into copies as c (id, tenant, state, origin, sealed_as, created_by, expires_at)
		values ($1, $2, 'making', $3, $4, $5, clock_timestamp() + make_interval(secs => $6))
		on conflict (id) do update set state = c.state where c.state = 'making' and c.tenant = $2`,
		c.ID, c.Tenant, c.Origin, c.SealedAs, c.CreatedBy, keep.Seconds())
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", c.ID, translate(err))
	}
	return nil
}

// HoldCopy records that a copy's file is whole, as c says of it. Errors: ErrNotFound, ErrConflict (it is gone), ErrErased.
func (s *Store) HoldCopy(ctx context.Context, tx pgx.Tx, c Copy) (Copy, error) {
	if err := s.NotErased(ctx, tx, c.Tenant); err != nil {
		return c, err
	}
	return s.changeCopy(ctx, tx, c.ID, `state = 'held', file = $2, bytes = $3, sha256 = $4, lsn = $5, schema_version = $6, taken_at = $7`, `c.state <> 'gone'`,
		c.File, c.Bytes, c.SHA256, c.LSN, c.SchemaVersion, c.TakenAt)
}

// Rewrapped records that a held copy's file has another header, and so another hash. Errors: ErrNotFound, ErrConflict (not held).
func (s *Store) Rewrapped(ctx context.Context, tx pgx.Tx, id, sha256 string) error {
	_, err := s.changeCopy(ctx, tx, id, `sha256 = $2`, `c.state = 'held'`, sha256)
	return err
}

// DropCopy records that a copy's file is gone from here, and why; one that is gone is left as it is. Errors: ErrNotFound.
func (s *Store) DropCopy(ctx context.Context, tx pgx.Tx, id, why string) error {
	_, err := s.changeCopy(ctx, tx, id, `state = 'gone', why_gone = $2, gone_at = clock_timestamp()`, `c.state <> 'gone'`, why)
	if errors.Is(err, ErrConflict) {
		return nil
	}
	return err
}

// HandOut counts that a copy's file was given to somebody. Errors: ErrNotFound, ErrConflict (not held).
func (s *Store) HandOut(ctx context.Context, tx pgx.Tx, id string) (Copy, error) {
	return s.changeCopy(ctx, tx, id, `handed_out = handed_out + 1`, `c.state = 'held'`)
}

func (s *Store) changeCopy(ctx context.Context, tx pgx.Tx, id, set, where string, args ...any) (Copy, error) {
	c, err := one(ctx, tx, scanCopy, `update copies c set `+set+` where c.id = $1 and `+where+` returning `+copyColumns, append([]any{id}, args...)...)
	if errors.Is(err, ErrNotFound) {
		if c, err = getCopy(ctx, tx, id); err == nil {
			err = fmt.Errorf("it is %s: %w", c.State, ErrConflict)
		}
	}
	if err != nil {
		return c, fmt.Errorf("copy %s: %w", id, err)
	}
	return c, nil
}

// GetCopy reads one copy, those that are gone too. Errors: ErrNotFound.
func (s *Store) GetCopy(ctx context.Context, id string) (Copy, error) {
	c, err := getCopy(ctx, s.pool, id)
	if err != nil {
		return c, fmt.Errorf("copy %s: %w", id, err)
	}
	return c, nil
}

func getCopy(ctx context.Context, q querier, id string) (Copy, error) {
	return one(ctx, q, scanCopy, `select `+copyColumns+` from copies c where c.id = $1`, id)
}

// CopyFilter narrows a list; zero fields don't.
type CopyFilter struct {
	Tenant shardmap.TenantID
	State  CopyState
	// Surviving are those whose file may be somewhere: held, or handed out and not past their expiry.
	Surviving bool
	Expired   bool // held, and past their expiry by the catalog's clock
}

// ListCopies lists oldest first. next is the cursor of the following page, empty after the last.
func (s *Store) ListCopies(ctx context.Context, f CopyFilter, p Page) (copies []Copy, next string, err error) {
	copies, err = many(ctx, s.pool, scanCopy, `select `+copyColumns+` from copies c
		where ($1 = '' or c.id > nullif($1, '')::uuid) and ($2 = '' or c.tenant = $2) and ($3 = '' or c.state = $3)
			and (not $4 or c.state = 'held' or c.handed_out > 0 and c.expires_at > clock_timestamp())
			and (not $5 or c.state = 'held' and c.expires_at <= clock_timestamp())
		order by c.id limit $6`, p.After, f.Tenant, f.State, f.Surviving, f.Expired, p.Rows()+1)
	if err != nil {
		return nil, "", fmt.Errorf("list copies: %w", err)
	}
	copies, next = CutPage(p, copies, func(c Copy) string { return c.ID })
	return copies, next, nil
}

// TenantKey is what the catalog knows of a tenant's key.
type TenantKey struct {
	Rotations int
	RotatedAt *time.Time
	RotatedBy string
}

// KeyRotated records a rotation of the tenant's key. Errors: ErrNotFound, ErrErased.
func (s *Store) KeyRotated(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, by string) error {
	if err := s.NotErased(ctx, tx, id); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `insert into tenant_keys as k (tenant, rotations, rotated_by) values ($1, 1, $2)
		on conflict (tenant) do update set rotations = k.rotations + 1, rotated_at = clock_timestamp(), rotated_by = $2`, id, by)
	if err != nil {
		return fmt.Errorf("key of tenant %s: %w", id, translate(err))
	}
	return nil
}

// GetTenantKey reads what is known of a tenant's key; of one that was never rotated, nothing.
func (s *Store) GetTenantKey(ctx context.Context, id shardmap.TenantID) (TenantKey, error) {
	k, err := one(ctx, s.pool, pgx.RowToStructByPos[TenantKey], `select rotations, rotated_at, rotated_by from tenant_keys where tenant = $1`, id)
	if errors.Is(err, ErrNotFound) {
		return TenantKey{}, nil
	}
	if err != nil {
		return k, fmt.Errorf("key of tenant %s: %w", id, err)
	}
	return k, nil
}
