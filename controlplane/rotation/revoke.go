package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/failpoint"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// revokeKind closes first and issues then: what leaked opens nothing from the
// first step on, and requests wait for the second, or fail.
func (s *Service) revokeKind() operation.Kind[TenantDoc] {
	return operation.Kind[TenantDoc]{Name: KindRevoke, Steps: []operation.Step[TenantDoc]{
		{Name: "prepare", Title: "looking at the logins", Do: s.prepare, Timeout: time.Minute},
		{Name: "kill", Title: "closing every login and ending every session", Do: s.kill, Undo: s.undoKill, NoReturn: true, Timeout: time.Minute},
		{Name: "issue", Title: "issuing new logins", Do: s.reissue, Timeout: time.Minute},
		{Name: "tell", Title: "telling the nodes", Do: s.tell, Timeout: 5 * time.Minute},
	}}
}

// Revoke starts to close every login to a tenant's database at once, those of
// people too, and to issue new ones so that it is served again. Requests that are
// under way are cut off. It waits for no rotation: one that is under way, whatever
// it has issued or waits for, ends where it stands.
// Errors: catalog.ErrNotFound, ErrConflict (deleted), ErrBusy (by an operation that is no rotation), ErrKeyReused.
func (s *Service) Revoke(ctx context.Context, id shardmap.TenantID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	spec := operation.Spec{Kind: KindRevoke, Tenant: id, Data: TenantDoc{}, Actor: actor, RequestKey: requestKey}
	return s.begin(ctx, spec, "secret.revoke", "tenant/"+string(id), func(ctx context.Context, tx pgx.Tx) error {
		// The operation's row before the tenant's, as workers lock them.
		if err := s.makeWay(ctx, tx, actor, `tenant = $1 and (kind = $2 or kind = $3 and step = 'tell')`, id, KindRotate, KindRevoke); err != nil {
			return err
		}
		return s.lives(id)(ctx, tx)
	})
}

// makeWay ends the rotation that is under way, or the revocation that has done
// all but telling the nodes. What either leaves is what a revocation begins
// with: it closes every turn, and its generation follows the secret's. A worker
// that has not noticed changes no login any more, for it looks whether the
// operation is still its own once it has reserved the database ([Service.owning]),
// and the revocation takes that reservation first of all. A secret that it may write
// all the same is of a turn that is closed then, and of the generation that comes next:
// the revocation finds and opens it as its own, and what leaked is of one before.
func (s *Service) makeWay(ctx context.Context, tx pgx.Tx, actor catalog.Actor, which string, args ...any) error {
	var id string
	err := tx.QueryRow(ctx, `select id::text from operations where finished_at is null and `+which+` for update`, args...).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("rotation under way: %w", catalog.Classify(err))
	}
	return s.engine.SupersedeTx(ctx, tx, id, "a revocation by "+actor.Name+" took its place")
}

func (s *Service) kill(ctx context.Context, r *run) error {
	err := s.owning(ctx, r, 0, func(conn *pgx.Conn) (err error) {
		people, err := shard.RevokeLogins(ctx, conn, r.Data.Database)
		if len(people) > 0 {
			r.Data.Receipt.People = people
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := failpoint.Hit("rotation/killed"); err != nil {
		return err
	}
	s.kickOut(ctx, r)
	return r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return s.record(ctx, tx, r.Op.Actor, "secret.kill", "tenant/"+string(r.Op.Tenant), r.Op.Tenant, "ok",
			map[string]any{"operation": r.Op.ID, "generation": r.Data.Generation - 1, "people": r.Data.Receipt.People})
	})
}

// undoKill lets nothing in again that was closed, but doesn't leave a tenant with
// no login either: it gets new ones.
func (s *Service) undoKill(ctx context.Context, r *run) error {
	var open bool
	err := s.owning(ctx, r, reserveFor, func(conn *pgx.Conn) error {
		document, _, err := s.secrets.Get(ctx, secret.DatabaseAuth(r.Data.Database))
		if err != nil {
			return fmt.Errorf("secret of %s: %w", r.Data.Database, err)
		}
		open, err = shard.TurnIsOpen(ctx, conn, r.Data.Database, document)
		open = open && document.Generation < r.Data.Generation
		return err
	})
	if err != nil || open {
		return err
	}
	if err := s.issue(ctx, r); err != nil {
		return err
	}
	return s.stands(ctx, r)
}

// kickOut has PgBouncer close the database's clients. Postgres lets none of them
// in any more; this is so that they hear of it at once.
func (s *Service) kickOut(ctx context.Context, r *run) {
	console, err := s.fleet.Console(ctx, r.Data.Shard)
	if err == nil {
		defer console.Close()
		// Resume even if Kill failed half-way: a database left paused would serve nobody.
		err = errors.Join(console.Kill(ctx, r.Data.Database), console.Resume(ctx, r.Data.Database))
	}
	if err != nil {
		s.log.WarnContext(ctx, "pgbouncer did not close a database's clients", "shard", r.Data.Shard, "database", r.Data.Database, "error", err)
	}
}

func (s *Service) reissue(ctx context.Context, r *run) error {
	if err := s.issue(ctx, r); err != nil {
		return err
	}
	return s.issued(ctx, r)
}
