package move

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// ErrNotWaiting: the move cuts over by itself, and waits for nobody's word.
var ErrNotWaiting = errors.New("it cuts over by itself as soon as it can")

// lookEvery is how often a move that waits to cut over looks how it stands.
const lookEvery = 15 * time.Second

// CutOver has a move cut over that waits for somebody to say so, or for a time;
// one that is not caught up yet will not wait. It records in the audit log who said so.
// Errors: [ErrNotWaiting], catalog.ErrConflict (no move), operation.ErrPastNoReturn, ErrFinal, catalog.ErrNotFound.
func (s *Service) CutOver(ctx context.Context, id string, actor catalog.Actor) (op *operation.Operation, err error) {
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if op, err = s.engine.GoAheadTx(ctx, tx, id); err != nil {
			return err
		}
		if op.Kind != Kind && op.Kind != KindReverse {
			return fmt.Errorf("operation %s is a %s and does not cut over: %w", id, op.Kind, catalog.ErrConflict)
		}
		var d Doc
		if err := json.Unmarshal(op.Data, &d); err != nil {
			return fmt.Errorf("document of operation %s: %w", id, err)
		}
		if !d.waits() {
			return fmt.Errorf("move %s: %w", id, ErrNotWaiting)
		}
		return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: "move.cutover",
			Object: "operation/" + id, Tenant: op.Tenant, Outcome: "accepted"})
	})
	if err != nil {
		return nil, err
	}
	return op, nil
}

// waits tells whether the move is to cut over on somebody's word, or not before a time.
func (r *Request) waits() bool { return r.Manual || !r.NotBefore.IsZero() }

// awaitWord waits until the move may cut over, with nothing held: the target
// goes on following meanwhile. Once it may, it may for good: an attempt that a
// crash has cut short is never left waiting.
func (s *Service) awaitWord(ctx context.Context, r *run) error {
	if !r.Data.waits() {
		return nil
	}
	told, now, err := r.MayGo(ctx)
	if err != nil || told || !r.Data.Manual && !now.Before(r.Data.NotBefore) {
		return err
	}
	if err := s.inVain(ctx, r); err != nil {
		return err
	}
	left, until := lookEvery, "the word: tenant-ops op cutover "+r.Op.ID
	if !r.Data.Manual {
		left = min(left, r.Data.NotBefore.Sub(now))
		until = r.Data.NotBefore.UTC().Format(time.RFC3339) + " to cut over (now: tenant-ops op cutover " + r.Op.ID + ")"
	}
	return operation.Wait(left, until+"; "+s.standing(ctx, r))
}

// inVain refuses to wait for a cutover back that can't be: what was kept for it is
// gone, and nothing can be copied again, or the tenant would not stay where it went.
func (s *Service) inVain(ctx context.Context, r *run) error {
	if r.Data.Reverses == "" {
		return nil
	}
	k, err := s.store.GetSoak(ctx, r.Data.Reverses)
	if err == nil {
		err = s.takesBack(ctx, k)
	}
	if errors.Is(err, catalog.ErrConflict) {
		return operation.Permanent(err)
	}
	src, err := s.connect(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return nil //nolint:nilerr // it waits on, and says so
	}
	defer closeConn(src)
	if _, _, err = stream.Lag(ctx, src, r.Data.Link); err == nil {
		err = s.sameSchema(ctx, r, src)
	}
	if errors.Is(err, stream.ErrNoSlot) || errors.Is(err, errSchemaChanged) {
		return cantTakeBack(err)
	}
	return nil
}

// standing says how far the target is behind.
func (s *Service) standing(ctx context.Context, r *run) string {
	src, err := s.connect(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return "how far the target is behind can't be seen now"
	}
	defer closeConn(src)
	lag, ok, err := stream.Lag(ctx, src, r.Data.Link)
	switch {
	case errors.Is(err, stream.ErrNoSlot):
		return "the replication slot is gone, so everything will be copied again first"
	case err != nil || !ok:
		return "the target does not follow at the moment"
	case s.sameSchema(ctx, r, src) != nil:
		return "the schema has changed, so everything will be copied again first"
	}
	return fmt.Sprintf("the target follows, %.1f MB behind", float64(lag)/1e6)
}
