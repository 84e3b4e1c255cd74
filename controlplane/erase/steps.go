package erase

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/secret"
)

const (
	// shutFor and dropFor bound what is tried at one place at a time.
	shutFor = 10 * time.Second
	dropFor = 2 * time.Minute
	// awayFor is the wait for shards that are away.
	awayFor = 3 * time.Second
)

// condemn is the point of no return: from here on nothing brings the tenant back.
func (s *Service) condemn(ctx context.Context, r *run) error {
	t, err := s.store.GetTenant(ctx, r.Op.Tenant)
	if err != nil {
		return permanent(err)
	}
	rows, err := s.tenants.Databases(ctx, r.Op.Tenant)
	if err != nil {
		return err
	}
	r.Data = Doc{CondemnedAt: now(), Database: t.Placement.Database, Key: KeyGone{Name: string(t.ID)}}
	for _, d := range rows {
		r.Data.Places = append(r.Data.Places, Place{Shard: d.Shard, Database: d.Name, Was: string(d.State)})
	}
	if r.Data.APIKeys, err = s.store.CountKeys(ctx, t.ID); err != nil {
		return err
	}
	return permanent(r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := s.store.MarkErased(ctx, tx, r.Op.Tenant); err != nil {
			return err
		}
		if err := s.tenants.CondemnTx(ctx, tx, rows); err != nil {
			return err
		}
		return s.record(ctx, tx, r.Op.Actor, "tenant.erase.condemn", r.Op.Tenant, "ok", map[string]any{"operation": r.Op.ID, "places": r.Data.Places, "api_keys": r.Data.APIKeys})
	}))
}

// now is as precise as a certificate need be.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// shut ends all sessions where it can. A place that is out of reach is shut when it is dropped.
func (s *Service) shut(ctx context.Context, r *run) error {
	for _, p := range r.Data.Places {
		one, cancel := context.WithTimeout(ctx, shutFor)
		err := s.tenants.Shut(one, p.Shard, p.Database)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.opt.Logger.WarnContext(ctx, "erase: a database stays open until it is dropped", "operation", r.Op.ID, "shard", p.Shard, "error", err)
		}
	}
	return nil
}

// destroyKey makes everything noise that was sealed under it, and makes sure.
func (s *Service) destroyKey(ctx context.Context, r *run) error {
	if err := s.keys.Destroy(ctx, r.Data.Key.Name); err != nil {
		return err
	}
	if _, _, err := s.keys.DataKey(ctx, r.Data.Key.Name); !errors.Is(err, secret.ErrDestroyed) {
		return fmt.Errorf("the key %s was destroyed and is still used: %w", r.Data.Key.Name, err)
	}
	at := now()
	r.Data.Key.DestroyedAt = &at
	return r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return s.record(ctx, tx, r.Op.Actor, "tenant.erase.key", r.Op.Tenant, "ok", map[string]any{"operation": r.Op.ID, "key": r.Data.Key.Name})
	})
}

// drop goes to every place that is left, and waits for those that are away.
func (s *Service) drop(ctx context.Context, r *run) error {
	var away []string
	for i := range r.Data.Places {
		p := &r.Data.Places[i]
		if p.DestroyedAt != nil {
			continue
		}
		r.Report(operation.Progress{Phase: fmt.Sprintf("dropping the database on %s", p.Shard), Percent: 100 * float64(i) / float64(len(r.Data.Places))})
		one, cancel := context.WithTimeout(ctx, dropFor)
		err := s.tenants.Destroy(one, p.Shard, p.Database)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.opt.Logger.WarnContext(ctx, "erase: a database is still there", "operation", r.Op.ID, "shard", p.Shard, "error", err)
			away = append(away, string(p.Shard))
			continue
		}
		at := now()
		p.DestroyedAt = &at
		if err := r.Save(); err != nil {
			return err
		}
	}
	if len(away) > 0 {
		return operation.Wait(awayFor, "the database to be dropped on "+strings.Join(away, ", ")+"; no certificate is issued before that")
	}
	return nil
}

// forget takes away what else there is in our hands.
func (s *Service) forget(ctx context.Context, r *run) error {
	if err := s.tenants.ForgetLogins(ctx, r.Data.Database); err != nil {
		return err
	}
	left, err := s.copies.Erased(ctx, r.Op.Tenant, r.Op.Actor)
	if err != nil {
		return err
	}
	r.Data.Copies = []CopyLeft{}
	for _, c := range left {
		where := "deleted"
		if c.HandedOut > 0 {
			where = "handed out"
		}
		r.Data.Copies = append(r.Data.Copies, CopyLeft{ID: c.ID, SHA256: c.SHA256, Where: where, CreatedAt: c.CreatedAt.UTC(), ExpiresAt: c.ExpiresAt.UTC()})
	}
	return nil
}

// certify signs what was done, and leaves the tombstone.
func (s *Service) certify(ctx context.Context, r *run) error {
	for _, p := range r.Data.Places {
		if p.DestroyedAt == nil {
			return fmt.Errorf("bug: the database on %s is not known to be destroyed", p.Shard)
		}
	}
	if r.Data.Key.DestroyedAt == nil {
		return errors.New("bug: the key is not known to be destroyed")
	}
	key, err := secret.SigningKey(ctx, s.secrets, signingKey)
	if err != nil {
		return err
	}
	c := Certificate{Format: format, Tenant: r.Op.Tenant, Operation: r.Op.ID, RequestedBy: r.Op.Actor.Name, Reason: r.Op.Actor.Reason,
		RequestedAt: r.Op.CreatedAt.UTC(), CondemnedAt: r.Data.CondemnedAt, Places: append([]Place{}, r.Data.Places...), APIKeys: r.Data.APIKeys,
		Key: r.Data.Key, Copies: r.Data.Copies, Beyond: beyond, IssuedAt: now()}
	if c.Fleet, err = s.store.ID(ctx); err != nil {
		return err
	}
	if s.opt.Checkpoint != nil {
		if c.Audit, err = s.opt.Checkpoint(ctx); err != nil {
			return fmt.Errorf("checkpoint of the audit log: %w", err)
		}
	}
	text, err := sign(c, key)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	if err := r.SetReceipt(Receipt{Tenant: c.Tenant, Places: c.Places, Key: c.Key, Copies: c.Copies, IssuedAt: c.IssuedAt}); err != nil {
		return err
	}
	r.Report(operation.Progress{Phase: "done", Percent: 100})
	return r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := s.store.KeepCertificate(ctx, tx, catalog.Erasure{Tenant: c.Tenant, Operation: c.Operation, Certificate: text}); err != nil {
			return err
		}
		if err := s.store.Entomb(ctx, tx, c.Tenant, c.Operation); err != nil {
			return err
		}
		return s.record(ctx, tx, r.Op.Actor, "tenant.erase", c.Tenant, "ok", map[string]any{"operation": c.Operation, "issued_at": c.IssuedAt})
	})
}
