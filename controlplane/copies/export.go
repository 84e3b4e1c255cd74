package copies

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// ExportDoc is the document of an export.
type ExportDoc struct {
	KeepSeconds float64       `json:"keep_seconds"`
	Copy        string        `json:"copy,omitempty"`
	File        string        `json:"file,omitempty"`
	Tries       int           `json:"tries,omitempty"`
	Receipt     ExportReceipt `json:"receipt"`
}

// ExportReceipt says what was taken and where it is.
type ExportReceipt struct {
	Tenant shardmap.TenantID `json:"tenant"`
	Copy   string            `json:"copy"`
	Key    string            `json:"key"`
	From   shardmap.ShardID  `json:"from"`
	// Bytes and SHA256 are of the sealed file.
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	// LSN is the position of the shard's log at or after the moment, TakenAt, whose state the copy holds.
	LSN           string    `json:"lsn"`
	TakenAt       time.Time `json:"taken_at"`
	SchemaVersion int64     `json:"schema_version"`
	Tables        int       `json:"tables"`
	Rows          int64     `json:"rows"`
	ExpiresAt     time.Time `json:"expires_at"`
	MS            float64   `json:"ms"`
	Notes         []string  `json:"notes,omitempty"`
}

type exportRun = operation.Run[ExportDoc]

func (s *Service) exportKind() operation.Kind[ExportDoc] {
	return operation.Kind[ExportDoc]{Name: KindExport, Long: true, Steps: []operation.Step[ExportDoc]{
		{Name: "reserve", Title: "entering the copy", Do: s.reserveCopy, Undo: s.unreserveCopy, Timeout: time.Minute},
		{Name: "write", Title: "writing the copy", Do: s.writeCopy, Timeout: 24 * time.Hour},
		{Name: "record", Title: "recording the copy", Do: s.recordCopy, NoReturn: true, Timeout: time.Minute},
	}}
}

// Export starts to make a sealed copy of the tenant's database, held for keep
// (0: the default). It records in the audit log who asked for it.
// Errors: catalog.ErrNotFound, ErrConflict (purged, or its move soaks), ErrErased, ErrBusy, ErrKeyReused, [ErrInvalid], [ErrNoShelf].
func (s *Service) Export(ctx context.Context, id shardmap.TenantID, keep time.Duration, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	keep, err := s.keepFor(keep)
	if err != nil {
		return nil, err
	}
	spec := operation.Spec{Kind: KindExport, Tenant: id, Actor: actor, RequestKey: requestKey, Data: ExportDoc{KeepSeconds: keep.Seconds()}}
	admit := func(ctx context.Context, tx pgx.Tx) error {
		t, err := s.store.LockTenant(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := s.store.NotErased(ctx, tx, id); err != nil {
			return err
		}
		if t.PurgedAt != nil {
			return fmt.Errorf("tenant %s is purged: %w", id, catalog.ErrConflict)
		}
		_, err = s.store.LiveSoakTx(ctx, tx, id)
		switch {
		case err == nil:
			return fmt.Errorf("tenant %s: its move soaks, and its tables are marked for that: %w; complete or reverse the move first", id, catalog.ErrConflict)
		case !errors.Is(err, catalog.ErrNotFound):
			return err
		}
		return nil
	}
	return s.start(ctx, spec, admit, func(op *operation.Operation) string {
		return fmt.Sprintf(`{"operation":%q,"keep_seconds":%.0f}`, op.ID, keep.Seconds())
	})
}

func (s *Service) keepFor(keep time.Duration) (time.Duration, error) {
	if err := s.shelf.check(); err != nil {
		return 0, err
	}
	if keep == 0 {
		keep = s.opt.Keep
	}
	if keep < minKeep || keep > maxKeep {
		return 0, fmt.Errorf("%w: a copy is kept for %v to %v, not %v", ErrInvalid, minKeep, maxKeep, keep)
	}
	return keep, nil
}

// reserveCopy writes the copy's row, so that no file is unknown.
func (s *Service) reserveCopy(ctx context.Context, r *exportRun) error {
	r.Data.Copy = newID()
	return permanent(r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return s.store.BeginCopy(ctx, tx, catalog.Copy{ID: r.Data.Copy, SealedAs: r.Data.Copy, Tenant: r.Op.Tenant, Origin: catalog.CopyExported, CreatedBy: r.Op.Actor.Name},
			time.Duration(r.Data.KeepSeconds*float64(time.Second)))
	}))
}

// unreserveCopy takes away what this and the next step made.
func (s *Service) unreserveCopy(ctx context.Context, r *exportRun) error {
	if r.Data.Copy == "" {
		return nil
	}
	if err := s.shelf.remove(r.Data.Copy); err != nil {
		return err
	}
	err := r.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return s.store.DropCopy(ctx, tx, r.Data.Copy, "abandoned") })
	if errors.Is(err, catalog.ErrNotFound) { // the row did not come to be
		return nil
	}
	return err
}

// recordCopy commits the copy: from here on it is held.
func (s *Service) recordCopy(ctx context.Context, r *exportRun) error {
	return permanent(r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rec := &r.Data.Receipt
		held, err := s.store.HoldCopy(ctx, tx, catalog.Copy{ID: r.Data.Copy, Tenant: r.Op.Tenant, File: r.Data.File, Bytes: rec.Bytes, SHA256: rec.SHA256,
			LSN: rec.LSN, SchemaVersion: rec.SchemaVersion, TakenAt: &rec.TakenAt})
		if err != nil {
			return err
		}
		rec.ExpiresAt = held.ExpiresAt.UTC()
		if err := r.SetReceipt(rec); err != nil {
			return err
		}
		return s.record(ctx, tx, r.Op.Actor, actions[KindExport], r.Op.Tenant, "ok",
			fmt.Sprintf(`{"copy":%q,"key":%q,"sha256":%q,"bytes":%d}`, rec.Copy, rec.Key, rec.SHA256, rec.Bytes))
	}))
}
