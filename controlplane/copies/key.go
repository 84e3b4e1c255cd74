package copies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/envelope"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// RotateDoc is the document of a rotation of a tenant's key.
type RotateDoc struct {
	Rewrapped []string      `json:"rewrapped,omitempty"` // copies that are done
	Receipt   RotateReceipt `json:"receipt"`
}

// RotateReceipt says what was done.
type RotateReceipt struct {
	Key       string    `json:"key"`
	RotatedAt time.Time `json:"rotated_at"`
	// Rewrapped are the copies held here whose data keys are wrapped by the new version.
	Rewrapped []string `json:"rewrapped"`
	// HandedOut are copies which are elsewhere: older versions of the key open them still.
	HandedOut []string `json:"handed_out,omitempty"`
}

type rotateRun = operation.Run[RotateDoc]

func (s *Service) rotateKind() operation.Kind[RotateDoc] {
	return operation.Kind[RotateDoc]{Name: KindRotate, Steps: []operation.Step[RotateDoc]{
		{Name: "rotate", Title: "making a new version of the key", Do: s.rotateKey, NoReturn: true, Timeout: time.Minute},
		{Name: "rewrap", Title: "wrapping the copies' keys anew", Do: s.rewrap, Timeout: 24 * time.Hour},
	}}
}

// RotateKey starts to give the tenant's key a new version, and to wrap the data
// keys of the copies held here by it. It records in the audit log who asked for
// it. Errors: catalog.ErrNotFound, ErrErased, ErrBusy, ErrKeyReused.
func (s *Service) RotateKey(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	spec := operation.Spec{Kind: KindRotate, Tenant: id, Actor: actor, RequestKey: requestKey, Data: RotateDoc{}}
	return s.start(ctx, spec, func(ctx context.Context, tx pgx.Tx) error { return s.store.NotErased(ctx, tx, id) },
		func(op *operation.Operation) string { return fmt.Sprintf(`{"operation":%q}`, op.ID) })
}

// rotateKey may run twice and then makes two versions, which does no harm.
func (s *Service) rotateKey(ctx context.Context, r *rotateRun) error {
	key := string(r.Op.Tenant)
	err := s.keys.Rotate(ctx, key)
	if errors.Is(err, secret.ErrNotFound) { // nothing of the tenant was sealed yet
		if _, _, err = s.keys.DataKey(ctx, key); err == nil {
			err = s.keys.Rotate(ctx, key)
		}
	}
	if err != nil {
		return permanent(err)
	}
	r.Data.Receipt = RotateReceipt{Key: key, RotatedAt: time.Now().UTC()}
	return permanent(r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := s.store.KeyRotated(ctx, tx, r.Op.Tenant, r.Op.Actor.Name); err != nil {
			return err
		}
		return s.record(ctx, tx, r.Op.Actor, actions[KindRotate], r.Op.Tenant, "ok", fmt.Sprintf(`{"key":%q}`, key))
	}))
}

// rewrap goes through the copies held here, one after the other.
func (s *Service) rewrap(ctx context.Context, r *rotateRun) error {
	done := map[string]bool{}
	for _, id := range r.Data.Rewrapped {
		done[id] = true
	}
	all, err := s.all(ctx, catalog.CopyFilter{Tenant: r.Op.Tenant, Surviving: true})
	if err != nil {
		return err
	}
	rec := &r.Data.Receipt
	rec.HandedOut = nil
	for i, c := range all {
		if c.HandedOut > 0 {
			rec.HandedOut = append(rec.HandedOut, c.ID)
		}
		if c.State != catalog.CopyHeld || done[c.ID] {
			continue
		}
		r.Report(operation.Progress{Phase: fmt.Sprintf("copy %d of %d", i+1, len(all)), Percent: 100 * float64(i) / float64(len(all))})
		err := s.rewrapOne(ctx, r, c)
		if errors.Is(err, catalog.ErrConflict) { // it expired this moment
			continue
		}
		if err != nil {
			return err
		}
		r.Data.Rewrapped = append(r.Data.Rewrapped, c.ID)
		if err := r.Save(); err != nil {
			return err
		}
	}
	rec.Rewrapped = r.Data.Rewrapped
	return r.SetReceipt(rec)
}

// rewrapOne changes the file's header, then its hash in the catalog.
func (s *Service) rewrapOne(ctx context.Context, r *rotateRun, c catalog.Copy) error {
	f, err := s.shelf.open(c.File, true)
	if err != nil {
		if now, lookErr := s.store.GetCopy(ctx, c.ID); lookErr == nil && now.State == catalog.CopyGone {
			return catalog.ErrConflict
		}
		return err
	}
	defer f.Close() //nolint:errcheck // Rewrap has synced it
	if err := r.Held(ctx); err != nil {
		return err
	}
	if err := envelope.Rewrap(ctx, f, s.keys); err != nil {
		return err
	}
	hash, err := digest(cancelable{ctx, io.NewSectionReader(f, 0, c.Bytes)})
	if err != nil {
		return err
	}
	return r.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return s.store.Rewrapped(ctx, tx, c.ID, hash) })
}

// all reads every page of a list.
func (s *Service) all(ctx context.Context, f catalog.CopyFilter) (all []catalog.Copy, err error) {
	for p := (catalog.Page{Limit: 1000}); ; {
		list, next, err := s.store.ListCopies(ctx, f, p)
		if err != nil {
			return nil, err
		}
		if all = append(all, list...); next == "" {
			return all, nil
		}
		p.After = next
	}
}

// Key says what is known of a tenant's key. It holds nothing secret.
type Key struct {
	Name      string
	Rotations int
	RotatedAt *time.Time
	RotatedBy string
	// Destroyed: the tenant was, or is being, erased.
	Destroyed bool
	Copies    []catalog.Copy // sealed by it, that may be somewhere
}

// GetKey reads it. Errors: catalog.ErrNotFound.
func (s *Service) GetKey(ctx context.Context, id shardmap.TenantID) (Key, error) {
	t, err := s.store.GetTenant(ctx, id)
	if err != nil {
		return Key{}, err
	}
	k, err := s.store.GetTenantKey(ctx, id)
	if err != nil {
		return Key{}, err
	}
	copies, err := s.all(ctx, catalog.CopyFilter{Tenant: id, Surviving: true})
	return Key{Name: string(id), Rotations: k.Rotations, RotatedAt: k.RotatedAt, RotatedBy: k.RotatedBy, Destroyed: t.ErasedAt != nil, Copies: copies}, err
}
