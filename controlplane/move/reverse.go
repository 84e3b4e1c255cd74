package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// KindReverse is the kind of operation that takes a tenant back while it soaks.
const KindReverse = "tenant-move-reverse"

// reverseKind is a move whose target has been kept in step: nothing is made and
// nothing copied, and from catching up on it takes the same steps.
func (s *Service) reverseKind() operation.Kind[Doc] {
	return operation.Kind[Doc]{Name: KindReverse, Long: true, Steps: []operation.Step[Doc]{
		{Name: "preflight", Title: "looking for what could break", Do: s.preflightReverse, Check: s.checkReverse, Timeout: 10 * time.Minute},
		{Name: "claim", Title: "taking over the link back", Do: s.claimSoak, Undo: s.undoClaim, Check: s.says("keeps the soak from ending meanwhile"), Timeout: 10 * time.Minute},
		{Name: "catch-up", Title: "catching up", Do: s.catchUp, Check: s.says("waits until changes arrive within a fraction of the pause budget"), Timeout: time.Hour},
		{Name: "cutover", Title: "cutting over", Do: s.cutover, Undo: s.undoCutover, Check: s.checkCutover, NoReturn: true, Timeout: 24 * time.Hour, MaxAttempts: 8},
		{Name: "open", Title: "opening the old place", Do: s.open, Timeout: 10 * time.Minute},
		{Name: "verify", Title: "comparing both sides", Do: s.verify, Check: s.says("compares both sides as they were at the barrier"), Timeout: 24 * time.Hour},
		{Name: "soak", Title: "keeping the other place in step", Do: s.soak, Check: s.checkSoak, Timeout: 10 * time.Minute},
		{Name: "clean", Title: "cleaning up", Do: s.clean, Check: s.checkClean, Timeout: 10 * time.Minute},
	}}
}

// ReverseRequest asks to take a tenant back.
type ReverseRequest struct {
	Operation string // the move's, which soaks
	// MaxPause bounds how long clients may be kept waiting [DefaultMaxPause].
	MaxPause time.Duration
	// Soak is how long the place that is left is kept in step in its turn [not].
	Soak time.Duration
	// Manual and NotBefore say when it cuts over, as a move's [as soon as it can].
	// The soak does not end while it waits.
	Manual    bool
	NotBefore time.Time
}

// Reverse starts to take the tenant of a move that soaks back to where it was
// before, with all that was written since, and records in the audit log who
// asked for it. The same actor and request key with the same arguments return
// the same operation.
// Errors: catalog.ErrNotFound (no such operation), [ErrNoSoak], catalog.ErrBusy,
// ErrConflict (the old place's shard is down or being emptied), ErrKeyReused.
func (s *Service) Reverse(ctx context.Context, req ReverseRequest, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	k, err := s.soakOf(ctx, req.Operation)
	if err != nil {
		return nil, err
	}
	return s.begin(ctx, reverseSpec(req, k, actor, requestKey), k, "tenant.move.reverse")
}

// DryRunReverse says what Reverse would do, step by step, and changes nothing. Errors: as Reverse's, and [*RefusedError].
func (s *Service) DryRunReverse(ctx context.Context, req ReverseRequest, actor catalog.Actor) ([]operation.StepPlan, error) {
	k, err := s.soakOf(ctx, req.Operation)
	if err == nil {
		err = soaking(k)
	}
	if err != nil {
		return nil, err
	}
	return s.engine.DryRun(ctx, reverseSpec(req, k, actor, ""))
}

func reverseSpec(req ReverseRequest, k catalog.Soak, actor catalog.Actor, requestKey string) operation.Spec {
	if req.MaxPause <= 0 {
		req.MaxPause = DefaultMaxPause
	}
	return operation.Spec{Kind: KindReverse, Tenant: k.Tenant, Actor: actor, RequestKey: requestKey, Data: Doc{
		Request: Request{Tenant: k.Tenant, To: k.Old, MaxPause: req.MaxPause, Soak: req.Soak, Manual: req.Manual, NotBefore: req.NotBefore}, Reverses: k.Operation}}
}

// begin starts an operation on a soak that may be left.
func (s *Service) begin(ctx context.Context, spec operation.Spec, k catalog.Soak, action string) (op *operation.Operation, err error) {
	if spec.RequestKey != "" { // a repeated request is answered as the first was, though the soak is over now
		if _, err := s.engine.FindRequest(ctx, spec.Actor.Name, spec.RequestKey); err == nil {
			return s.engine.Start(ctx, spec)
		}
	}
	if spec.Kind == KindReverse {
		if err := s.takesBack(ctx, k); err != nil {
			return nil, err
		}
	}
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// First whether anything is under way: the soak may be about to end.
		if op, err = s.engine.StartTx(ctx, tx, spec); err != nil {
			return err
		}
		if err := soaking(k); err != nil {
			return err
		}
		return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{
			Actor: spec.Actor, Action: action, Object: "tenant/" + string(k.Tenant), Tenant: k.Tenant, Outcome: "accepted",
			Details: fmt.Appendf(nil, `{"operation":%q,"move":%q,"home":%q,"old":%q}`, op.ID, k.Operation, k.Home, k.Old),
		})
	})
	if err != nil {
		return nil, err
	}
	return op, nil
}

// soakOf reads the soak of an operation. Errors: catalog.ErrNotFound (no such
// operation), ErrNoSoak.
func (s *Service) soakOf(ctx context.Context, id string) (catalog.Soak, error) {
	k, err := s.store.GetSoak(ctx, id)
	if !errors.Is(err, catalog.ErrNotFound) {
		return k, err
	}
	op, err := s.engine.Get(ctx, id)
	if err != nil {
		return k, err
	}
	return k, fmt.Errorf("operation %s (%s, %s) does not soak; only a move made with a soak can be taken back: %w", id, op.Kind, op.State, ErrNoSoak)
}

// takesBack refuses an old place that can't have its tenant back, or would not
// keep it. One whose shard is cordoned is no new one there.
func (s *Service) takesBack(ctx context.Context, k catalog.Soak) error {
	old, err := s.store.GetShard(ctx, k.Old)
	switch {
	case err != nil:
		return err
	case old.State == catalog.ShardDown:
		return fmt.Errorf("shard %s is down: %w", k.Old, catalog.ErrConflict)
	case old.State == catalog.ShardDraining:
		return fmt.Errorf("shard %s is being emptied, and the tenant would be moved away again; take the drain back first (tenant-ops shard undrain %s), or let the tenant stay: %w", k.Old, k.Old, catalog.ErrConflict)
	}
	return nil
}

// soaking refuses a soak that is being left, or was.
func soaking(k catalog.Soak) error {
	switch k.State {
	case catalog.Soaking:
		return nil
	case catalog.Reversing:
		return fmt.Errorf("move %s is being taken back: %w", k.Operation, ErrNoSoak)
	case catalog.Reversed:
		return fmt.Errorf("move %s was taken back: %w", k.Operation, ErrNoSoak)
	case catalog.Ending, catalog.Ended:
	}
	return fmt.Errorf("the soak of move %s is over: %s: %w", k.Operation, k.Reason, ErrNoSoak)
}

// claimSoak keeps the keeper away from the link, and makes the old place a target.
func (s *Service) claimSoak(ctx context.Context, r *run) error {
	from, err := s.store.GetDatabase(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return err
	}
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := s.store.SetSoakState(ctx, tx, r.Data.Reverses, []catalog.SoakState{catalog.Soaking}, catalog.Reversing, ""); err != nil {
			return err
		}
		if _, err := s.store.SetDatabaseState(ctx, tx, r.Data.To, r.Data.database(), []catalog.DatabaseState{catalog.DatabaseRetired}, catalog.DatabaseTarget, nil); err != nil {
			return err
		}
		return s.store.SetSchemaVersion(ctx, tx, r.Data.To, r.Data.database(), from.SchemaVersion)
	})
	if errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrNotFound) {
		err = operation.Permanent(err)
	}
	if err != nil {
		return err
	}
	return s.guardDDL(ctx, r)
}

// undoClaim leaves the soak as it was.
func (s *Service) undoClaim(ctx context.Context, r *run) error {
	if err := s.stillAtSource(ctx, r); err != nil {
		return err
	}
	k, err := s.store.GetSoak(ctx, r.Data.Reverses)
	if err != nil {
		return err
	}
	if k.State != catalog.Reversing {
		return nil // the step came to nothing
	}
	if err := s.freeDDL(ctx, r); err != nil {
		return err
	}
	_, err = s.unlessGone(ctx, r, r.Data.To, func() error {
		if err := s.dropBack(ctx, r); err != nil {
			return err
		}
		dst, err := s.connect(ctx, r.Data.To, r.Data.database())
		if err != nil {
			return err
		}
		defer closeConn(dst)
		return unclaim(ctx, dst)
	})
	if err != nil {
		return err
	}
	return s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := s.store.SetDatabaseState(ctx, tx, r.Data.To, r.Data.database(), []catalog.DatabaseState{catalog.DatabaseTarget}, catalog.DatabaseRetired, nil); err != nil {
			return err
		}
		_, err := s.store.SetSoakState(ctx, tx, r.Data.Reverses, []catalog.SoakState{catalog.Reversing}, catalog.Soaking, "")
		return err
	})
}

// markReversed ends the soak of the move that was taken back.
func (s *Service) markReversed(ctx context.Context, r *run) error {
	if r.Data.Reverses == "" {
		return nil
	}
	return s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.store.SetSoakState(ctx, tx, r.Data.Reverses, []catalog.SoakState{catalog.Reversing}, catalog.Reversed, "taken back by operation "+r.Op.ID)
		return err
	})
}

func (s *Service) checkSoak(_ context.Context, r *run) (string, error) {
	if r.Data.Soak <= 0 {
		return "nothing: no soak was asked for", nil
	}
	return fmt.Sprintf("has %s follow what is written on %s for %v, so that the tenant can be taken back", r.Data.From.Shard, r.Data.To, r.Data.Soak), nil
}
