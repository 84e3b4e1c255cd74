package move

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// kindsThatCopy are the kinds of operations whose copy has a pace; the second is clone.Kind.
var kindsThatCopy = []string{Kind, "tenant-clone"}

// SetPace changes how fast a move or a clone copies that is under way; what the
// wish leaves out stays as it was. It holds for every worker from now on, also
// for a copy that has not begun yet or is made again, and the audit log has who asked.
// Errors: catalog.ErrConflict (it copies nothing), operation.ErrPastNoReturn, ErrFinal, catalog.ErrNotFound.
func (s *Service) SetPace(ctx context.Context, id string, wish pace.Wish, actor catalog.Actor) (op *operation.Operation, err error) {
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		op, err = s.engine.AskTx(ctx, tx, id, func(op *operation.Operation) (json.RawMessage, error) {
			if !slices.Contains(kindsThatCopy, op.Kind) {
				return nil, fmt.Errorf("operation %s is a %s and copies nothing: %w", id, op.Kind, catalog.ErrConflict)
			}
			before, err := pace.ReadWish(op.Asked)
			if err != nil {
				return nil, err
			}
			return json.Marshal(wish.Over(before))
		})
		if err != nil {
			return err
		}
		details, err := json.Marshal(wish)
		if err != nil {
			return err
		}
		return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: "move.pace",
			Object: "operation/" + id, Tenant: op.Tenant, Outcome: "accepted", Details: details})
	})
	if err != nil {
		return nil, err
	}
	return op, nil
}

// paced makes the pace of a copy, or of a comparison, and keeps it true until stopped.
func (s *Service) paced(ctx context.Context, r *run) (p *pace.Pace, stop func()) {
	p = pace.New()
	unfollow := p.Follow(ctx, pace.Wish{MaxRate: &r.Data.MaxRate, Mode: r.Data.Pace}, r.Asked)
	unwatch := p.Watching(ctx, s.watched(r), r.Data.Link, applicationName, s.opt.Bearable)
	return p, func() { unwatch(); unfollow() }
}

// watched are the servers whose load sets the pace.
func (s *Service) watched(r *run) []pace.Server {
	var servers []pace.Server
	for _, on := range []shardmap.ShardID{r.Data.From.Shard, r.Data.To} {
		servers = append(servers, pace.Server{Name: string(on), Connect: func(ctx context.Context) (*pgx.Conn, error) {
			return s.connect(ctx, on, maintenance)
		}})
	}
	return servers
}
