package admintest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/copies"
	"github.com/freehold-db/freehold/controlplane/erase"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// SealedFile is what every copy's file holds; one that is sent must begin so.
const SealedFile = "sealed, as if"

// Copies stands for sealed copies and erasures: rows of the catalog, without a file or a database.
type Copies struct{ d *Domain }

type copyDoc struct {
	Copies bool `json:"copies"` // it ends with a held copy, or a certificate
}

func newCopies(d *Domain) *Copies {
	c := &Copies{d}
	for kind, end := range map[string]func(ctx context.Context, tx pgx.Tx, r *operation.Run[copyDoc]) error{
		copies.KindExport: func(ctx context.Context, tx pgx.Tx, r *operation.Run[copyDoc]) error {
			one, err := c.hold(ctx, tx, r.Op.Tenant, catalog.CopyExported, r.Op.CreatedBy)
			if err != nil {
				return err
			}
			return r.SetReceipt(copies.ExportReceipt{Tenant: r.Op.Tenant, Copy: one.ID, Bytes: one.Bytes, SHA256: one.SHA256})
		},
		erase.Kind: func(ctx context.Context, tx pgx.Tx, r *operation.Run[copyDoc]) error {
			if _, err := d.store.MarkErased(ctx, tx, r.Op.Tenant); err != nil {
				return err
			}
			return d.store.KeepCertificate(ctx, tx, catalog.Erasure{Tenant: r.Op.Tenant, Operation: r.Op.ID, Certificate: `{"certificate":"<signed>"}`})
		},
		copies.KindImport: nil, copies.KindRotate: nil,
	} {
		operation.Register(d.engine, operation.Kind[copyDoc]{Name: kind, Steps: []operation.Step[copyDoc]{{Name: "do", NoReturn: true,
			Do: func(ctx context.Context, r *operation.Run[copyDoc]) error {
				return r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
					if end == nil {
						return nil
					}
					return end(ctx, tx, r)
				})
			}}}})
	}
	return c
}

func (c *Copies) hold(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, origin, by string) (catalog.Copy, error) {
	now := time.Now()
	one := catalog.Copy{ID: uuid.Must(uuid.NewV7()).String(), Tenant: id, Origin: origin, CreatedBy: by, Bytes: int64(len(SealedFile)), SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(SealedFile))), LSN: "0/1", TakenAt: &now}
	one.SealedAs = one.ID
	if err := c.d.store.BeginCopy(ctx, tx, one, time.Hour); err != nil {
		return one, err
	}
	return c.d.store.HoldCopy(ctx, tx, one)
}

func (c *Copies) start(ctx context.Context, kind, action string, id shardmap.TenantID, actor catalog.Actor, key string, admit func(context.Context, pgx.Tx) error) (op *operation.Operation, err error) {
	err = c.d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := admit(ctx, tx); err != nil {
			return err
		}
		if op, err = c.d.engine.StartTx(ctx, tx, operation.Spec{Kind: kind, Tenant: id, Data: copyDoc{}, Actor: actor, RequestKey: key}); err != nil {
			return err
		}
		return c.d.audit(ctx, tx, actor, action, id)
	})
	return op, err
}

func (c *Copies) notErased(id shardmap.TenantID) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error { return c.d.store.NotErased(ctx, tx, id) }
}

// Export makes a held copy's row.
func (c *Copies) Export(ctx context.Context, id shardmap.TenantID, keep time.Duration, actor catalog.Actor, key string) (*operation.Operation, error) {
	if keep > 0 && keep < time.Minute {
		return nil, fmt.Errorf("%w: a copy is kept for longer", copies.ErrInvalid)
	}
	return c.start(ctx, copies.KindExport, "tenant.export", id, actor, key, c.notErased(id))
}

// Import makes nothing, but says so.
func (c *Copies) Import(ctx context.Context, req copies.ImportRequest, actor catalog.Actor, key string) (*operation.Operation, error) {
	return c.start(ctx, copies.KindImport, "tenant.import", req.Tenant, actor, key, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := c.d.store.LockTenant(ctx, tx, req.Tenant); err == nil {
			return fmt.Errorf("tenant %s: %w", req.Tenant, catalog.ErrExists)
		}
		return nil
	})
}

// Receive takes what begins as SealedFile does.
func (c *Copies) Receive(ctx context.Context, of shardmap.TenantID, body io.Reader, _ time.Duration, actor catalog.Actor) (held catalog.Copy, err error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return held, err
	}
	if !strings.HasPrefix(string(text), SealedFile) {
		return held, fmt.Errorf("%w: it does not begin so", copies.ErrDamaged)
	}
	err = c.d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if held, err = c.hold(ctx, tx, of, catalog.CopyUploaded, actor.Name); err != nil {
			return err
		}
		return c.d.audit(ctx, tx, actor, "copy.upload", of)
	})
	return held, err
}

// Content gives SealedFile.
func (c *Copies) Content(ctx context.Context, id string, _ catalog.Actor) (found catalog.Copy, _ io.ReadCloser, err error) {
	err = c.d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		found, err = c.d.store.HandOut(ctx, tx, id)
		return err
	})
	return found, io.NopCloser(strings.NewReader(SealedFile)), err
}

// Delete drops a copy's row.
func (c *Copies) Delete(ctx context.Context, id string, actor catalog.Actor) (catalog.Copy, error) {
	err := c.d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := c.d.store.DropCopy(ctx, tx, id, "deleted"); err != nil {
			return err
		}
		return c.d.audit(ctx, tx, actor, "copy.delete", "")
	})
	if err != nil {
		return catalog.Copy{}, err
	}
	return c.Get(ctx, id)
}

// Get reads a copy's row.
func (c *Copies) Get(ctx context.Context, id string) (catalog.Copy, error) {
	if _, err := uuid.Parse(id); err != nil {
		return catalog.Copy{}, fmt.Errorf("copy: %w", catalog.ErrNotFound)
	}
	return c.d.store.GetCopy(ctx, id)
}

// Copies lists copies' rows.
func (c *Copies) Copies(ctx context.Context, f catalog.CopyFilter, p catalog.Page) ([]catalog.Copy, string, error) {
	return c.d.store.ListCopies(ctx, f, p)
}

// RotateKey rotates nothing, but says so.
func (c *Copies) RotateKey(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, key string) (*operation.Operation, error) {
	return c.start(ctx, copies.KindRotate, "key.rotate", id, actor, key, c.notErased(id))
}

// GetKey says what the catalog knows.
func (c *Copies) GetKey(ctx context.Context, id shardmap.TenantID) (copies.Key, error) {
	t, err := c.d.store.GetTenant(ctx, id)
	return copies.Key{Name: string(id), Destroyed: t.ErasedAt != nil}, err
}

// Erase marks the tenant, and signs nothing.
func (c *Copies) Erase(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, key string) (*operation.Operation, error) {
	return c.start(ctx, erase.Kind, "tenant.erase", id, actor, key, c.notErased(id))
}

// Certificate reads what Erase left.
func (c *Copies) Certificate(ctx context.Context, id shardmap.TenantID) (catalog.Erasure, error) {
	return c.d.store.GetErasure(ctx, id)
}

// PublicKey is some key.
func (c *Copies) PublicKey(context.Context) (ed25519.PublicKey, error) {
	return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey), nil
}
