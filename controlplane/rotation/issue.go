package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/failpoint"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/sleep"
	"github.com/freehold-db/freehold/internal/tenantdb"
)

// maintenance is the database in which admin connections work on a server as a whole.
const maintenance = "postgres"

// reserveFor is how long somebody else's work on a database's logins is waited
// for, the keeper's perhaps, before it is cut short.
const reserveFor = 3 * time.Second

// owning runs fn with the tenant's database reserved: a worker that was stopped
// in the middle and wakes up late has lost its session, and changes no login of ours.
func (s *Service) owning(ctx context.Context, r *run, patience time.Duration, fn func(conn *pgx.Conn) error) error {
	conn, err := s.fleet.Admin(ctx, r.Data.Shard, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	release, err := reserve(ctx, conn, r.Data.Database, patience)
	if err != nil {
		return err
	}
	defer release()
	if err := r.Held(ctx); err != nil {
		return err
	}
	return fn(conn)
}

func reserve(ctx context.Context, conn *pgx.Conn, database string, patience time.Duration) (func(), error) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		release, err := shard.Reserve(ctx, conn, database)
		if !errors.Is(err, shard.ErrReserved) {
			return release, err
		}
		if err := sleep.For(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return shard.Seize(ctx, conn, database)
}

// issue lets the new turn in, makes sure of it, and writes the secret. Whatever
// of that was done before is found: a secret that is written has passwords that
// the logins have, or get.
func (s *Service) issue(ctx context.Context, r *run) error {
	return s.owning(ctx, r, reserveFor, func(conn *pgx.Conn) error {
		path := secret.DatabaseAuth(r.Data.Database)
		for {
			document, version, err := s.secrets.Get(ctx, path)
			if err != nil {
				return fmt.Errorf("secret of %s: %w", r.Data.Database, err)
			}
			written := document.Generation == r.Data.Generation
			if !written {
				if document.Generation > r.Data.Generation {
					return operation.Permanent(errAhead)
				}
				document = secret.Login{User: tenantdb.REST.UserAt(r.Data.Database, r.Data.Turn), Password: pg.NewPassword(), Generation: r.Data.Generation}
			}
			if err := openTurn(ctx, conn, r.Data.Database, document); err != nil {
				return err
			}
			if written {
				return nil
			}
			if err := failpoint.Hit("rotation/opened"); err != nil {
				return err
			}
			_, err = s.secrets.Put(ctx, path, document, version)
			if errors.Is(err, secret.ErrConflict) {
				continue // an earlier try of ours, whose answer was lost
			}
			if err != nil {
				return fmt.Errorf("secret of %s: %w", r.Data.Database, err)
			}
			return failpoint.Hit("rotation/written")
		}
	})
}

// openTurn lets a generation in unless it is, and reads back whether it is.
func openTurn(ctx context.Context, conn *pgx.Conn, database string, document secret.Login) error {
	open, err := shard.TurnIsOpen(ctx, conn, database, document)
	if err != nil || open {
		return err
	}
	if err := shard.OpenTurn(ctx, conn, database, document); err != nil {
		return err
	}
	if open, err = shard.TurnIsOpen(ctx, conn, database, document); err == nil && !open {
		err = fmt.Errorf("logins of %s: what was set is not what the server has", database)
	}
	return err
}

// undoIssue closes the turn that nobody was given. If the secret was written all
// the same, it stands: nodes may have read it. It is recorded as issued then, and
// they are told, for the turn that they would stay on is the next to be issued.
func (s *Service) undoIssue(ctx context.Context, r *run) error {
	written := false
	err := s.owning(ctx, r, reserveFor, func(conn *pgx.Conn) error {
		document, _, err := s.secrets.Get(ctx, secret.DatabaseAuth(r.Data.Database))
		if err != nil {
			return fmt.Errorf("secret of %s: %w", r.Data.Database, err)
		}
		if written = document.Generation >= r.Data.Generation; written {
			return nil
		}
		return shard.CloseTurn(ctx, conn, r.Data.Database, r.Data.Turn)
	})
	if err != nil || !written {
		return err
	}
	return s.stands(ctx, r)
}

// stands tells the nodes of a generation that was issued by an operation that is
// taken back, and records it.
func (s *Service) stands(ctx context.Context, r *run) error {
	if told, err := s.nodes.Renew(ctx, r.Op.Tenant, r.Data.Generation, askFor); err != nil || told.Done() < told.Nodes {
		s.log.WarnContext(ctx, "logins were issued and not every node uses them yet", "tenant", r.Op.Tenant, "error", err)
	}
	return s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return s.recordIssue(ctx, tx, r) })
}
