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
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// ShardDoc is the document of a rotation of a shard's admin login.
type ShardDoc struct {
	Shard      shardmap.ShardID `json:"shard"`
	Leaked     bool             `json:"leaked,omitempty"` // a revocation
	From       string           `json:"from,omitempty"`   // the login of before
	To         string           `json:"to,omitempty"`
	Generation int64            `json:"generation,omitempty"`
	Receipt    ShardReceipt     `json:"receipt"`
}

// ShardReceipt says what was done.
type ShardReceipt struct {
	Shard      shardmap.ShardID `json:"shard"`
	Generation int64            `json:"generation"`
	Login      string           `json:"login"`
	Closed     string           `json:"closed,omitempty"` // the login of before
	Links      int              `json:"links"`            // subscriptions that log in by the new one now
	Ended      int              `json:"ended_sessions"`   // that a revocation ended
	Note       string           `json:"note,omitempty"`
}

type shardRun = operation.Run[ShardDoc]

const (
	beganFor   = time.Hour // that what began by the old login may take to end
	beganAgain = time.Second
)

func (s *Service) shardKind() operation.Kind[ShardDoc] {
	return operation.Kind[ShardDoc]{Name: KindShard, Steps: []operation.Step[ShardDoc]{
		{Name: "prepare", Title: "looking at the admin login", Do: s.prepareShard, Timeout: time.Minute, Check: s.checkShard},
		{Name: "issue", Title: "issuing a new admin login", Do: s.issueShard, Undo: s.undoShard, NoReturn: true, Timeout: time.Minute},
		{Name: "links", Title: "handing it to subscriptions", Do: s.relink, Timeout: 10 * time.Minute},
		{Name: "close", Title: "closing the old admin login", Do: s.closeShard, Timeout: 10 * time.Minute},
	}}
}

// RotateShard starts to give a shard another admin login.
// Errors: catalog.ErrNotFound, ErrBusy (one is under way), ErrConflict (the shard is down), ErrKeyReused.
func (s *Service) RotateShard(ctx context.Context, id shardmap.ShardID, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	return s.begin(ctx, shardSpec(id, actor, requestKey), "secret.rotate", "shard/"+string(id), s.alone(id))
}

// DryRunShard says what RotateShard would do, step by step, and changes nothing.
func (s *Service) DryRunShard(ctx context.Context, id shardmap.ShardID, actor catalog.Actor) ([]operation.StepPlan, error) {
	if _, err := s.store.GetShard(ctx, id); err != nil {
		return nil, err
	}
	return s.engine.DryRun(ctx, shardSpec(id, actor, ""))
}

func shardSpec(id shardmap.ShardID, actor catalog.Actor, requestKey string) operation.Spec {
	return operation.Spec{Kind: KindShard, Data: ShardDoc{Shard: id, Receipt: ShardReceipt{Shard: id}}, Actor: actor, RequestKey: requestKey}
}

// alone refuses a second rotation of the same shard's login.
func (s *Service) alone(id shardmap.ShardID) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		var state catalog.ShardState
		err := tx.QueryRow(ctx, `select state from shards where id = $1 for update`, id).Scan(&state)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("shard %s: %w", id, catalog.ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("shard %s: %w", id, catalog.Classify(err))
		}
		if state == catalog.ShardDown {
			return fmt.Errorf("shard %s: %w: it is down", id, catalog.ErrConflict)
		}
		var busy bool
		err = tx.QueryRow(ctx, `select exists (select from operations where kind in ($1, $2) and data->>'shard' = $3 and finished_at is null)`, KindShard, KindKill, id).Scan(&busy)
		if err != nil {
			return fmt.Errorf("shard %s: %w", id, catalog.Classify(err))
		}
		if busy {
			return fmt.Errorf("shard %s: %w: its admin login is being rotated", id, catalog.ErrBusy)
		}
		return nil
	}
}

func (s *Service) checkShard(ctx context.Context, r *shardRun) (string, error) {
	if err := s.prepareShard(ctx, r); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s follows %s as the admin login of shard %s", r.Data.To, r.Data.From, r.Data.Shard), nil
}

func (s *Service) prepareShard(ctx context.Context, r *shardRun) error {
	login, _, err := s.secrets.Get(ctx, secret.ShardAdmin(string(r.Data.Shard)))
	if err != nil {
		return fmt.Errorf("admin login of shard %s: %w", r.Data.Shard, err)
	}
	r.Data.From, r.Data.To, r.Data.Generation = login.User, shard.NextAdmin(login.User), max(login.Generation, 1)+1
	r.Data.Receipt.Login, r.Data.Receipt.Generation = r.Data.To, r.Data.Generation
	return nil
}

// issueShard lets the new login in, logs in by it, and writes the secret: all
// that begins from then on uses it.
func (s *Service) issueShard(ctx context.Context, r *shardRun) error {
	if err := s.openAdmin(ctx, r); err != nil {
		return err
	}
	return r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		d := r.Data.Receipt
		if err := s.store.IssueCredential(ctx, tx, catalog.ShardCredential, string(d.Shard), d.Login, d.Generation, r.Op.Actor); err != nil {
			return err
		}
		return s.record(ctx, tx, r.Op.Actor, "secret.issue", "shard/"+string(d.Shard), "", "ok",
			map[string]any{"operation": r.Op.ID, "generation": d.Generation, "login": d.Login})
	})
}

// openAdmin reads the secret with the logins locked: whoever was before us, a rotation
// whose place we take perhaps, has written it or never will. What is written all the
// same, by an earlier try of ours whose answer was lost, is what the server gets.
func (s *Service) openAdmin(ctx context.Context, r *shardRun) error {
	conn, err := s.fleet.Admin(ctx, r.Data.Shard, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	release, err := shard.LockAdmin(ctx, conn)
	if err != nil {
		return err
	}
	defer release()
	path := secret.ShardAdmin(string(r.Data.Shard))
	for {
		if err := r.Held(ctx); err != nil { // whoever had the lock before us may have been the one after us
			return err
		}
		next, version, err := s.secrets.Get(ctx, path)
		if err != nil {
			return fmt.Errorf("admin login of shard %s: %w", r.Data.Shard, err)
		}
		written := next.Generation == r.Data.Generation && next.User == r.Data.To
		if !written {
			if next.User != r.Data.From {
				return operation.Permanent(errAhead)
			}
			next = secret.Login{User: r.Data.To, Password: pg.NewPassword(), Generation: r.Data.Generation}
		}
		if err := s.letIn(ctx, r, conn, next); err != nil || written {
			return err
		}
		_, err = s.secrets.Put(ctx, path, next, version)
		if errors.Is(err, secret.ErrConflict) {
			continue
		}
		if err != nil {
			return fmt.Errorf("admin login of shard %s: %w", r.Data.Shard, err)
		}
		return failpoint.Hit("rotation/admin-written")
	}
}

func (s *Service) letIn(ctx context.Context, r *shardRun, conn *pgx.Conn, login secret.Login) error {
	if err := shard.OpenAdmin(ctx, conn, r.Data.From, login); err != nil {
		return err
	}
	if r.Data.Leaked { // sessions of when this turn was in use before
		n, err := shard.EndAdmin(ctx, conn, login.User)
		if err != nil {
			return err
		}
		r.Data.Receipt.Ended += n
	}
	proof, err := s.fleet.AdminAs(ctx, r.Data.Shard, login)
	if err != nil {
		return fmt.Errorf("the new admin login is not let in, as the old one is (see pg_hba.conf): %w", err)
	}
	closeConn(ctx, proof)
	return failpoint.Hit("rotation/admin-opened")
}

// undoShard closes the login that nobody was given.
func (s *Service) undoShard(ctx context.Context, r *shardRun) error {
	login, _, err := s.secrets.Get(ctx, secret.ShardAdmin(string(r.Data.Shard)))
	if err != nil {
		return fmt.Errorf("admin login of shard %s: %w", r.Data.Shard, err)
	}
	if login.User == r.Data.To {
		return nil // it stands: others may have read it
	}
	return s.closeAdmin(ctx, r, r.Data.To)
}

// closeAdmin closes a login, and ends its sessions if it leaked.
func (s *Service) closeAdmin(ctx context.Context, r *shardRun, user string) error {
	conn, err := s.fleet.Admin(ctx, r.Data.Shard, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	release, err := shard.LockAdmin(ctx, conn)
	if err != nil {
		return err
	}
	defer release()
	if err := r.Held(ctx); err != nil {
		return err
	}
	closed, err := shard.CloseAdmin(ctx, conn, user)
	if err != nil {
		return err
	}
	switch {
	case closed && r.Data.Leaked:
		n, err := shard.EndAdmin(ctx, conn, user)
		if err != nil {
			return err
		}
		r.Data.Receipt.Ended += n
		fallthrough
	case closed:
		r.Data.Receipt.Closed = user
	default:
		r.Data.Receipt.Note = user + " is the server's bootstrap superuser and the deployment's to close: it is still let in"
	}
	return nil
}

// relink waits until what began by the old login has ended, and hands the new one
// to the links of moves that soak, which stay for long.
func (s *Service) relink(ctx context.Context, r *shardRun) error {
	began, err := s.beganBefore(ctx, r)
	if err != nil {
		return err
	}
	if began != "" {
		return operation.Wait(beganAgain, began)
	}
	return s.relinkFrom(ctx, r, r.Data.From)
}

// relinkFrom hands the login in use to the links that log in by another.
func (s *Service) relinkFrom(ctx context.Context, r *shardRun, user string) error {
	shards, err := s.store.ListShards(ctx)
	if err != nil {
		return err
	}
	var failed []error // one that does not answer keeps no other's from going on
	for _, u := range shards {
		if u.ID == r.Data.Shard || u.State == catalog.ShardDown {
			continue
		}
		n, err := s.fleet.Relink(ctx, u.ID, r.Data.Shard, user)
		r.Data.Receipt.Links += n
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// beganBefore names an operation that may have read the old login and not logged in yet; empty: none.
func (s *Service) beganBefore(ctx context.Context, r *shardRun) (string, error) {
	var wait string
	err := s.store.Pool().QueryRow(ctx, `
		with issued as (select issued_at as at from credentials where kind = 'shard' and subject = $1)
		select case when clock_timestamp() < at + make_interval(secs => $2) then 'what logs in at this moment'
			when clock_timestamp() < at + make_interval(secs => $3) then coalesce((select kind || ' ' || id || ' to end, which began by the old login' from operations
				where finished_at is null and started_at < issued.at and id <> $4 and kind <> all($5) order by id limit 1), '')
			else '' end from issued`,
		r.Data.Shard, s.opt.SettleFor.Seconds(), beganFor.Seconds(), r.Op.ID, []string{KindAll, KindShard, KindKill, KindRotate, KindRevoke, "rebalance"}).Scan(&wait)
	if err != nil {
		return "", fmt.Errorf("what began before: %w", catalog.Classify(err))
	}
	return wait, nil
}

func (s *Service) closeShard(ctx context.Context, r *shardRun) error {
	if err := s.closeAdmin(ctx, r, r.Data.From); err != nil {
		return err
	}
	return r.SetReceipt(r.Data.Receipt)
}
