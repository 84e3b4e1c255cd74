package move

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/shardmap"
)

// A shard may be gone for good. What a move has left there can then not be
// taken away, and while it waits for that its tenant, which is served at the
// other side, can be neither moved nor suspended nor deleted. So the wait has a
// bound; what is left is dropped with its database by the shard's keeper, should
// it come back.

// awayFirst is the wait for a shard that is out of reach.
const awayFirst = time.Second

// unlessGone runs fn, which takes away at a shard what the tenant does not need
// where it is served. gone: the shard has been out of reach for too long, or an
// operator has said that it is down, and that is left. Until then the step waits.
func (s *Service) unlessGone(ctx context.Context, r *run, on shardmap.ShardID, fn func() error) (gone bool, err error) {
	err = fn()
	if err == nil {
		delete(r.Data.Away, on)
		return false, nil
	}
	if ctx.Err() != nil || !outOfReach(err) {
		return false, err
	}
	return s.gone(ctx, r, on, err)
}

// gone decides about a shard that was just found out of reach.
func (s *Service) gone(ctx context.Context, r *run, on shardmap.ShardID, reason error) (bool, error) {
	row, err := s.store.GetShard(ctx, on)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return false, errors.Join(err, reason)
	}
	since, known := r.Data.Away[on]
	if !known {
		if r.Data.Away == nil {
			r.Data.Away = map[shardmap.ShardID]time.Time{}
		}
		since = time.Now().UTC()
		r.Data.Away[on] = since
		if err := r.Save(); err != nil {
			return false, err
		}
	}
	until := since.Add(s.opt.GoneAfter)
	if err == nil && row.State != catalog.ShardDown && time.Now().Before(until) {
		return false, operation.Wait(jitter(min(awayFirst, s.opt.GoneAfter)), fmt.Sprintf("for shard %s, which is out of reach, until %s: %v", on, until.Format(time.RFC3339), reason))
	}
	note := fmt.Sprintf("shard %s is out of reach since %s, and what is left of the move there stays until it is back", on, since.Format(time.RFC3339))
	s.opt.Logger.WarnContext(ctx, "move: "+note, "operation", r.Op.ID, "tenant", r.Data.Tenant, "error", reason)
	r.Data.Receipt.note(note)
	if err := r.SetReceipt(r.Data.Receipt); err != nil {
		return false, err
	}
	return true, r.Save()
}

// outOfReach tells an error of a connection from a server's answer.
func outOfReach(err error) bool {
	if code := pg.Code(err); code != "" {
		return code == pgerrcode.CannotConnectNow
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
