package provision

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// RemoveShard takes a drained, empty shard out of the fleet, and its logins out
// of the secret store. The same again is no error, and deletes what a crash
// left. Nothing is done to the server. Errors: catalog.ErrNotFound, ErrConflict
// (with what stands against it).
func (s *Service) RemoveShard(ctx context.Context, id shardmap.ShardID, actor catalog.Actor) (catalog.Shard, error) {
	var removed catalog.Shard
	err := s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if removed, err = s.store.RemoveShard(ctx, tx, id); err != nil {
			return err
		}
		return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: "shard.remove", Object: "shard/" + string(id), Outcome: "ok"})
	})
	if err != nil {
		return removed, err
	}
	for _, path := range []string{secret.ShardAdmin(string(id)), secret.ShardBouncer(string(id))} {
		if err := s.secrets.Delete(ctx, path); err != nil {
			return removed, err
		}
	}
	return removed, nil
}
