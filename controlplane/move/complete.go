package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// KindComplete is the kind of operation that ends a soak.
const KindComplete = "tenant-move-complete"

// CompleteDoc is the document of such an operation.
type CompleteDoc struct {
	Move    string          `json:"move"`
	Why     string          `json:"why"`
	Receipt CompleteReceipt `json:"receipt"`
}

// CompleteReceipt is what it leaves for people.
type CompleteReceipt struct {
	Move   string            `json:"move"`
	Tenant shardmap.TenantID `json:"tenant"`
	Home   shardmap.ShardID  `json:"home"`
	Old    shardmap.ShardID  `json:"old"`
	Reason string            `json:"reason"`
	// DropAfter is when the old place is dropped.
	DropAfter time.Time `json:"drop_after"`
	Notes     []string  `json:"notes,omitempty"`
}

// completeKind: first it is written down that there is no way back, then the
// link is taken away, then the old place retired.
func (s *Service) completeKind() operation.Kind[CompleteDoc] {
	return operation.Kind[CompleteDoc]{Name: KindComplete, Steps: []operation.Step[CompleteDoc]{
		{Name: "end", Title: "ending the soak", Do: s.endSoak, NoReturn: true, Timeout: time.Minute},
		{Name: "unlink", Title: "taking the link away", Do: s.unlinkSoak, Timeout: 10 * time.Minute},
		{Name: "retire", Title: "retiring the old place", Do: s.retireOld, Timeout: time.Minute},
	}}
}

// byHand is why a soak ends that somebody completes.
const byHand = "completed"

// Complete starts to end a soak: the tenant stays where it is, the link is
// taken away and the old place retired. It records in the audit log who asked
// for it. The same actor and request key return the same operation.
// Errors: catalog.ErrNotFound (no such operation), [ErrNoSoak], catalog.ErrBusy, ErrKeyReused.
func (s *Service) Complete(ctx context.Context, id string, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	k, err := s.soakOf(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.begin(ctx, completeSpec(k, byHand, actor, requestKey), k, "tenant.move.complete")
}

func completeSpec(k catalog.Soak, why string, actor catalog.Actor, requestKey string) operation.Spec {
	return operation.Spec{Kind: KindComplete, Tenant: k.Tenant, Actor: actor, RequestKey: requestKey, Data: CompleteDoc{Move: k.Operation, Why: why}}
}

// endSoak is the point of no return, from which on the tenant's other
// operations wait: it is not passed while the tenant's home is out of reach.
func (s *Service) endSoak(ctx context.Context, r *operation.Run[CompleteDoc]) error {
	k, err := s.store.GetSoak(ctx, r.Data.Move)
	if err != nil {
		return err
	}
	home, err := s.connect(ctx, k.Home, k.Database)
	if err != nil && !isGone(err) {
		return err
	}
	closeConn(home)
	err = r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		k, err := s.store.SetSoakState(ctx, tx, r.Data.Move, []catalog.SoakState{catalog.Soaking}, catalog.Ending, r.Data.Why)
		if err != nil {
			return err
		}
		r.Data.Receipt = CompleteReceipt{Move: k.Operation, Tenant: k.Tenant, Home: k.Home, Old: k.Old, Reason: k.Reason}
		return r.SetReceipt(r.Data.Receipt)
	})
	if errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrNotFound) {
		return operation.Permanent(err)
	}
	return err
}

// unlinkSoak begins with the slot, which makes a server keep its log. An old
// place that is out of reach is left: what is there goes when it is dropped.
func (s *Service) unlinkSoak(ctx context.Context, r *operation.Run[CompleteDoc]) error {
	k, err := s.store.GetSoak(ctx, r.Data.Move)
	if err != nil {
		return err
	}
	if err := s.unlinkHome(ctx, k); err != nil {
		return err
	}
	if err := s.unlinkOld(ctx, k); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.opt.Logger.Warn("move: the old place's end of a link stays for now", "operation", r.Op.ID, "tenant", k.Tenant, "shard", k.Old, "error", err)
		r.Data.Receipt.Notes = append(r.Data.Receipt.Notes, fmt.Sprintf("%s could not be cleaned up, which its drop will do: %v", k.Old, err))
	}
	return r.SetReceipt(r.Data.Receipt)
}

// unlinkHome drops the slot and gives the tables their identities back.
func (s *Service) unlinkHome(ctx context.Context, k catalog.Soak) error {
	home, err := s.connect(ctx, k.Home, k.Database)
	if isGone(err) {
		return nil // purged
	}
	if err != nil {
		return err
	}
	defer closeConn(home)
	if err := stream.DropSlot(ctx, home, k.Link); err != nil {
		return err
	}
	return patiently(ctx, func() error { return stream.UnpublishAll(ctx, home, linkPrefix) })
}

func (s *Service) unlinkOld(ctx context.Context, k catalog.Soak) error {
	old, err := s.connect(ctx, k.Old, k.Database)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer closeConn(old)
	if err := stream.Unsubscribe(ctx, old, k.Link); err != nil {
		return err
	}
	return patiently(ctx, func() error { return stream.UnpublishAll(ctx, old, linkPrefix) })
}

func (s *Service) retireOld(ctx context.Context, r *operation.Run[CompleteDoc]) error {
	rec := &r.Data.Receipt
	rec.DropAfter = time.Now().Add(s.opt.Grace).UTC()
	err := s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		k, err := s.store.SetSoakState(ctx, tx, r.Data.Move, []catalog.SoakState{catalog.Ending}, catalog.Ended, "")
		if err != nil {
			return err
		}
		_, err = s.store.SetDatabaseState(ctx, tx, k.Old, k.Database, []catalog.DatabaseState{catalog.DatabaseRetired}, catalog.DatabaseRetired, &rec.DropAfter)
		if errors.Is(err, catalog.ErrNotFound) || errors.Is(err, catalog.ErrConflict) {
			return nil // somebody else decided on it
		}
		return err
	})
	if err != nil {
		return err
	}
	r.Report(operation.Progress{Phase: "done", Percent: 100})
	return r.SetReceipt(rec)
}
