package provision

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	// loginsEvery is how often a shard is asked for databases without all
	// logins: those that an older version made or moved.
	loginsEvery  = 10 * time.Minute
	loginsAtOnce = 100
)

// completeLogins gives databases of an older version the logins that they
// lack, and their logins the groups; until then the data plane says so to who needs one. One that can't be
// helped keeps no other from it.
func (k *keeper) completeLogins(ctx context.Context, conn *pgx.Conn, on shardmap.ShardID) error {
	k.mu.Lock()
	t := k.shards[on]
	due := !time.Now().Before(t.logins)
	k.mu.Unlock()
	if !due {
		return nil
	}
	if err := shard.Enlist(ctx, conn); err != nil {
		return err
	}
	var failed []error
	for after := ""; ; {
		names, err := shard.LackingLogins(ctx, conn, after, loginsAtOnce)
		if err != nil {
			return errors.Join(append(failed, err)...)
		}
		if len(names) == 0 {
			break
		}
		for _, name := range names {
			if err := k.completeOne(ctx, conn, on, name); err != nil {
				failed = append(failed, err)
			}
			if ctx.Err() != nil || conn.IsClosed() {
				return errors.Join(failed...)
			}
			after = name
		}
	}
	if err := k.hardenOlder(ctx, conn, on); err != nil {
		failed = append(failed, err)
	}
	if len(failed) == 0 {
		k.mu.Lock()
		t.logins = time.Now().Add(loginsEvery)
		k.mu.Unlock()
	}
	return errors.Join(failed...)
}

// completeOne leaves alone what is being made, moved here or dropped: a move
// brings the roles that the source has.
func (k *keeper) completeOne(ctx context.Context, conn *pgx.Conn, on shardmap.ShardID, name string) error {
	release, err := shard.Reserve(ctx, conn, name)
	if errors.Is(err, shard.ErrReserved) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	d, err := k.store.GetDatabase(ctx, on, name)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if d.State != catalog.DatabaseAssigned && d.State != catalog.DatabaseReady {
		return nil
	}
	document, _, err := k.secrets.Get(ctx, secret.DatabaseAuth(name))
	if err != nil {
		return err
	}
	return shard.AddLogins(ctx, conn, name, document, k.opt.Limits)
}

// hardenOlder brings databases that an older version made to the rights of
// today's template. One that can't be helped keeps no other from it.
func (k *keeper) hardenOlder(ctx context.Context, conn *pgx.Conn, on shardmap.ShardID) error {
	var failed []error
	for after := ""; ctx.Err() == nil && !conn.IsClosed(); {
		names, err := shard.Softer(ctx, conn, after, loginsAtOnce)
		if err != nil || len(names) == 0 {
			return errors.Join(append(failed, err)...)
		}
		for _, name := range names {
			if err := k.hardenOne(ctx, conn, on, name); err != nil {
				failed = append(failed, err)
			}
			after = name
		}
	}
	return errors.Join(append(failed, ctx.Err())...)
}

// hardenOne leaves alone what is being made, moved here or dropped.
func (k *keeper) hardenOne(ctx context.Context, conn *pgx.Conn, on shardmap.ShardID, name string) error {
	release, err := shard.Reserve(ctx, conn, name)
	if errors.Is(err, shard.ErrReserved) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	d, err := k.store.GetDatabase(ctx, on, name)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && d.State != catalog.DatabaseAssigned && d.State != catalog.DatabaseReady {
		return nil
	}
	if err != nil {
		return err
	}
	inside, err := k.fleet.Admin(ctx, on, name)
	if err != nil {
		return err
	}
	defer closeConn(ctx, inside)
	return shard.Harden(ctx, inside)
}
