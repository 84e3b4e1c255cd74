package move

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/ddlguard"
)

// guardDDL keeps the tenant's schema as it is at the source, until freeDDL:
// the stream does not carry changes of it. It is set as the worker that the
// database obeys, for one that woke up late would leave a guard behind that
// nobody takes away. A change that slips through all the same is noticed by
// the schema's fingerprint, and copied again.
func (s *Service) guardDDL(ctx context.Context, r *run) error {
	src, err := s.connect(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(src)
	if err := claim(ctx, src, leaseOf(r), r.Held); err != nil {
		return err
	}
	mode := r.Data.DDL
	if mode == "" {
		mode = ddlguard.Refuse
	}
	return guarded(ctx, src, leaseOf(r), func(conn *pgx.Conn) error {
		return ddlguard.Raise(ctx, conn, r.Op.ID, applicationName, mode)
	})
}

// freeDDL takes the guard away, and has the source obey nobody any more. It
// ends the session of a worker that was stopped while it set the guard.
func (s *Service) freeDDL(ctx context.Context, r *run) error {
	src, err := s.connect(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return err
	}
	defer closeConn(src)
	if err := claim(ctx, src, leaseOf(r), r.Held); err != nil {
		return err
	}
	if err := ddlguard.Lower(ctx, src); err != nil {
		return err
	}
	return unclaim(ctx, src)
}

// hurryDDL ends the waits of statements that a guard has wait: PgBouncer could
// not be paused while their transactions are open.
func (s *Service) hurryDDL(ctx context.Context, r *run, c *crew) error {
	if r.Data.DDL != ddlguard.Wait {
		return nil
	}
	return ddlguard.Hurry(ctx, c.src)
}
