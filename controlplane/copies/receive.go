package copies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/envelope"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// Receive takes in a sealed file of this tenant's that was handed out before, and
// holds it for keep (0: the default). All of it is verified on the way in: a file that is
// refused leaves nothing. Errors: [ErrDamaged], [ErrForeign], catalog.ErrErased
// (and nothing can read it any more), catalog.ErrNotFound (no such tenant),
// [ErrInvalid] (keep, or another tenant's copy), [ErrNoShelf], secret.ErrUnavailable, those of body.
func (s *Service) Receive(ctx context.Context, of shardmap.TenantID, body io.Reader, keep time.Duration, actor catalog.Actor) (catalog.Copy, error) {
	keep, err := s.keepFor(keep)
	if err != nil {
		return catalog.Copy{}, err
	}
	c := catalog.Copy{ID: newID(), Origin: catalog.CopyUploaded, CreatedBy: actor.Name}
	d, err := s.shelf.begin(c.ID, "u")
	if err != nil {
		return c, err
	}
	defer d.drop()
	sealed, err := envelope.Read(io.TeeReader(body, d)) // what is verified is what is kept
	if err != nil {
		return c, explain(err)
	}
	if c.Tenant, err = s.owner(ctx, sealed.Header); err != nil {
		return c, err
	}
	if c.Tenant != of {
		return c, fmt.Errorf("%w: the copy is of tenant %s", ErrInvalid, c.Tenant)
	}
	c.SealedAs = sealed.Header.Copy
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return s.store.BeginCopy(ctx, tx, c, keep) })
	if err != nil {
		return c, err
	}
	held, err := s.take(ctx, sealed, d, c, actor)
	if err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		gone := s.store.Tx(clean, func(ctx context.Context, tx pgx.Tx) error { return s.store.DropCopy(ctx, tx, c.ID, "refused") })
		if gone != nil { // the row says "making" until it expires
			s.opt.Logger.WarnContext(clean, "a refused copy stays in the catalog for now", "copy", c.ID, "error", gone)
		}
		return c, errors.Join(err, s.shelf.remove(c.ID))
	}
	return held, nil
}

func (s *Service) take(ctx context.Context, sealed *envelope.Sealed, d *draft, c catalog.Copy, actor catalog.Actor) (held catalog.Copy, err error) {
	m, _, err := s.verify(ctx, sealed)
	if err != nil {
		return c, err
	}
	if err := d.finish(); err != nil {
		return c, err
	}
	c.File, c.Bytes, c.SHA256, c.LSN, c.SchemaVersion, c.TakenAt = d.name, d.bytes, d.sum(), m.LSN, m.SchemaVersion, &m.TakenAt
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if held, err = s.store.HoldCopy(ctx, tx, c); err != nil {
			return err
		}
		return s.record(ctx, tx, actor, "copy.upload", c.Tenant, "ok", fmt.Sprintf(`{"copy":%q,"sealed_as":%q,"sha256":%q,"bytes":%d}`, c.ID, c.SealedAs, c.SHA256, c.Bytes))
	})
	return held, err
}

// owner is whose copy it is, if it is one that may be taken in here.
// Errors: [ErrForeign], [ErrDamaged], catalog.ErrNotFound, catalog.ErrErased.
func (s *Service) owner(ctx context.Context, h envelope.Header) (shardmap.TenantID, error) {
	fleet, err := s.store.ID(ctx)
	if err != nil {
		return "", err
	}
	if h.Fleet != fleet {
		return "", fmt.Errorf("%w (%.60q); this one can't read it", ErrForeign, h.Fleet)
	}
	id, err := shardmap.ParseTenantID(h.Tenant)
	if _, bad := uuid.Parse(h.Copy); err != nil || bad != nil || h.Key != h.Tenant || h.Content != content {
		return "", fmt.Errorf("%w: its header is none of this version's", ErrDamaged)
	}
	return id, s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return s.store.NotErased(ctx, tx, id) })
}

// verify reads a sealed copy to its end.
func (s *Service) verify(ctx context.Context, sealed *envelope.Sealed) (m Manifest, e end, err error) {
	plain, err := sealed.Open(ctx, s.keys)
	if err != nil {
		return m, e, explain(err)
	}
	c, err := newReader(cancelable{ctx, plain})
	if err != nil {
		return m, e, explain(err)
	}
	defer c.close()
	m = c.manifest
	if string(m.Tenant) != sealed.Header.Tenant || !strings.HasPrefix(m.Database, "t_") || !shardmap.ValidDatabase(m.Database) || m.Portrait.Database != m.Database {
		return m, e, fmt.Errorf("%w: %w: its manifest is of another tenant", ErrDamaged, errContent)
	}
	r, err := c.schema()
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if err == nil {
		e, err = c.end()
	}
	return m, e, explain(err)
}

// explain gives what is wrong with a file its name.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, envelope.ErrCorrupt), errors.Is(err, envelope.ErrNotSealed), errors.Is(err, errContent), errors.Is(err, secret.ErrWrapped), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case errors.Is(err, secret.ErrDestroyed):
		return fmt.Errorf("%w: its key was destroyed, and nothing reads the copy any more: %w", catalog.ErrErased, err)
	case errors.Is(err, secret.ErrNotFound):
		return fmt.Errorf("%w: there is no key of that tenant here", ErrForeign)
	}
	return err
}

// cancelable ends a long reading with its context.
type cancelable struct {
	ctx context.Context
	r   io.Reader
}

func (c cancelable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// Content opens a held copy's file, and counts that it is handed out. The caller
// closes it. Errors: catalog.ErrNotFound, ErrConflict (it is gone), [ErrNoShelf].
func (s *Service) Content(ctx context.Context, id string, actor catalog.Actor) (catalog.Copy, io.ReadCloser, error) {
	c, err := s.Get(ctx, id)
	if err != nil {
		return c, nil, err
	}
	if c.State != catalog.CopyHeld {
		return c, nil, fmt.Errorf("copy %s is %s: %w", id, c.State, catalog.ErrConflict)
	}
	f, err := s.shelf.open(c.File, false)
	if err != nil {
		return c, nil, err
	}
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if c, err = s.store.HandOut(ctx, tx, id); err != nil {
			return err
		}
		return s.record(ctx, tx, actor, "copy.hand-out", c.Tenant, "ok", fmt.Sprintf(`{"copy":%q,"sha256":%q}`, id, c.SHA256))
	})
	if err != nil {
		_ = f.Close()
		return c, nil, err
	}
	return c, f, nil
}

// Delete takes a held copy away before it expires; what was handed out stays
// where it is. One that is gone is no error. Errors: catalog.ErrNotFound, ErrConflict (it is being made).
func (s *Service) Delete(ctx context.Context, id string, actor catalog.Actor) (catalog.Copy, error) {
	c, err := s.Get(ctx, id)
	if err != nil || c.State == catalog.CopyGone {
		return c, err
	}
	if c.State == catalog.CopyMaking {
		return c, fmt.Errorf("copy %s is being made: %w; cancel its operation", id, catalog.ErrConflict)
	}
	if err := s.drop(ctx, c, "deleted", actor); err != nil {
		return c, err
	}
	return s.Get(ctx, id)
}

// drop takes the file away, then says so.
func (s *Service) drop(ctx context.Context, c catalog.Copy, why string, actor catalog.Actor) error {
	if err := s.shelf.remove(c.ID); err != nil {
		return err
	}
	return s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := s.store.DropCopy(ctx, tx, c.ID, why); err != nil {
			return err
		}
		return s.record(ctx, tx, actor, "copy.delete", c.Tenant, "ok", fmt.Sprintf(`{"copy":%q,"why":%q}`, c.ID, why))
	})
}
