package rotation

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// killKind issues first, for without an admin login nothing could be closed,
// and then waits for nobody: what works by the old logins is cut off, and
// operations go on by the new one.
func (s *Service) killKind() operation.Kind[ShardDoc] {
	return operation.Kind[ShardDoc]{Name: KindKill, Steps: []operation.Step[ShardDoc]{
		{Name: "prepare", Title: "looking at the admin login", Do: s.prepareShard, Timeout: time.Minute},
		{Name: "issue", Title: "issuing a new admin login", Do: s.issueShard, Undo: s.undoShard, NoReturn: true, Timeout: time.Minute},
		{Name: "kill", Title: "closing the other admin logins and ending their sessions", Do: s.killShard, Timeout: time.Minute},
		{Name: "links", Title: "handing the new one to subscriptions", Do: s.relinkAll, Timeout: 10 * time.Minute},
	}}
}

// RevokeShard starts to give a shard another admin login and to close all
// others of its turns at once, with their sessions. What works by them is cut
// off and goes on by the new one. A rotation of the login that is under way ends where it stands,
// and so does a revocation that has done all but handing the new one to subscriptions.
// Errors: catalog.ErrNotFound, ErrBusy (another revocation is under way), ErrConflict (the shard is down), ErrKeyReused.
func (s *Service) RevokeShard(ctx context.Context, id shardmap.ShardID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	spec := shardSpec(id, actor, requestKey)
	spec.Kind, spec.Data = KindKill, ShardDoc{Shard: id, Leaked: true, Receipt: ShardReceipt{Shard: id}}
	return s.begin(ctx, spec, "secret.revoke", "shard/"+string(id), func(ctx context.Context, tx pgx.Tx) error {
		if err := s.makeWay(ctx, tx, actor, `(kind = $1 or kind = $2 and step = 'links') and data->>'shard' = $3`, KindShard, KindKill, id); err != nil {
			return err
		}
		return s.alone(id)(ctx, tx)
	})
}

// others are all turns of the admin login but the one that was issued.
func (d ShardDoc) others() (names []string) {
	first := shard.FirstAdmin(d.To)
	for _, name := range []string{d.From, first, shard.NextAdmin(first), shard.NextAdmin(shard.NextAdmin(first))} {
		if name != d.To && (name != d.From || len(names) == 0) {
			names = append(names, name)
		}
	}
	return names
}

func (s *Service) killShard(ctx context.Context, r *shardRun) error {
	var closed []string
	for _, user := range r.Data.others() {
		r.Data.Receipt.Closed = ""
		if err := s.closeAdmin(ctx, r, user); err != nil {
			return err
		}
		if r.Data.Receipt.Closed == user {
			closed = append(closed, user)
		}
	}
	r.Data.Receipt.Closed = ""
	if slices.Contains(closed, r.Data.From) {
		r.Data.Receipt.Closed = r.Data.From
	}
	return r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		d := r.Data.Receipt
		return s.record(ctx, tx, r.Op.Actor, "secret.kill", "shard/"+string(d.Shard), "", "ok",
			map[string]any{"operation": r.Op.ID, "logins": closed, "ended_sessions": d.Ended, "note": d.Note})
	})
}

func (s *Service) relinkAll(ctx context.Context, r *shardRun) error {
	var failed []error
	for _, user := range r.Data.others() {
		failed = append(failed, s.relinkFrom(ctx, r, user))
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	return r.SetReceipt(r.Data.Receipt)
}
