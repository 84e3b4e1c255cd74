package breakglass

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/sleep"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	// endFor bounds the end of one access, lookFor a look at one shard's sessions.
	endFor  = 30 * time.Second
	lookFor = 10 * time.Second
	// maxRecorded bounds the sessions of one access that get a record each.
	maxRecorded = 100
	// endAtOnce are ended at the same time, and againAtOnce more whose server had no answer.
	endAtOnce, againAtOnce = 32, 4
)

// Wake has what is open looked at now.
func (s *Service) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run ends what is over and records what is used, until ctx ends; then it
// returns nil. Several replicas may do so at once: each record is written once.
// A server that does not answer keeps nothing open at others: no round waits for one.
func (s *Service) Run(ctx context.Context) error {
	k := keeper{Service: s, seen: map[string]map[sessionKey]bool{}}
	k.first.SetLimit(endAtOnce)
	k.again.SetLimit(againAtOnce)
	k.looking.SetLimit(1)
	defer func() { _, _, _ = k.first.Wait(), k.again.Wait(), k.looking.Wait() }() // they log what goes wrong
	for {
		next := s.opt.Every
		if err := k.round(ctx); err != nil && ctx.Err() == nil {
			s.opt.Logger.WarnContext(ctx, "break-glass accesses", "error", err)
			next *= 5
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-time.After(next + rand.N(next/4)):
		}
	}
}

type keeper struct {
	*Service
	// first and again end accesses, those apart whose server had no answer before; under has the IDs.
	first, again errgroup.Group
	under        sync.Map
	// looking records sessions; seen, which is its own, are those whose rows were written, by access.
	looking errgroup.Group
	seen    map[string]map[sessionKey]bool
}

type sessionKey struct {
	pid   int32
	since int64
}

func (k *keeper) round(ctx context.Context) error {
	live, err := many(ctx, k.store.Pool(), `select `+columns+` from break_glass b where b.state <> 'ended'
		order by array_position('{open,approved,waiting,ending}', b.state), b.expires_at limit 1000`)
	if err != nil {
		return err
	}
	// Of those that were tried before each has its turn some time.
	rand.Shuffle(len(live), func(i, j int) { live[i], live[j] = live[j], live[i] })
	open := map[string]Session{}
	for _, b := range live {
		switch {
		case b.baseless && b.State != Ending:
			k.end(ctx, b, "revoked", "what it was asked for with was taken back or is over")
		case b.State == Open && !b.lapsed:
			open[b.Login] = b
		case b.State == Waiting && b.lapsed, b.State == Approved && b.lapsed:
			k.end(ctx, b, "lapsed", "its time is over")
		case b.lapsed || b.State == Ending:
			k.end(ctx, b, "expired", "its time is over")
		}
	}
	k.looking.TryGo(func() error {
		for id := range k.seen {
			if !anyOf(live, id) {
				delete(k.seen, id)
			}
		}
		if err := k.look(ctx, open); err != nil && ctx.Err() == nil {
			k.opt.Logger.WarnContext(ctx, "sessions of break-glass accesses", "error", err)
			_ = sleep.For(ctx, 4*k.opt.Every)
		}
		return nil
	})
	return nil
}

// end begins to end an access, unless that is under way or too many others are:
// there is another round.
func (k *keeper) end(ctx context.Context, b Session, cause, why string) {
	lane := &k.first
	if b.State == Ending {
		lane = &k.again
	}
	if _, under := k.under.LoadOrStore(b.ID, true); under {
		return
	}
	began := lane.TryGo(func() error {
		defer k.under.Delete(b.ID)
		ctx, cancel := context.WithTimeout(ctx, endFor)
		defer cancel()
		if _, err := k.finish(ctx, b.ID, cause, system(why)); err != nil && ctx.Err() == nil {
			k.opt.Logger.WarnContext(ctx, "break-glass access is not ended yet", "access", b.ID, "error", err)
		}
		return nil
	})
	if !began {
		k.under.Delete(b.ID)
	}
}

func anyOf(live []Session, id string) bool {
	for _, b := range live {
		if b.ID == id && b.State == Open {
			return true
		}
	}
	return false
}

// finish ends an access in two steps, so that it is ended whatever happens
// between: from the first on it is Ending, and whoever looks at it goes on with
// the second, in which no shard has the login any more.
func (s *Service) finish(ctx context.Context, id, cause string, actor catalog.Actor) (Session, error) {
	b, err := s.change(ctx, id, func(ctx context.Context, tx pgx.Tx, b Session) (Session, error) {
		if b.State == Ended || b.State == Ending {
			return b, nil
		}
		if cause == "expired" && !b.lapsed {
			return b, nil
		}
		b, err := one(ctx, tx, `update break_glass as b set state = 'ending', ended_by = $2, end_cause = $3 where id = $1 returning `+columns, id, actor.Name, cause)
		if err != nil {
			return b, err
		}
		return b, s.record(ctx, tx, actor, "break-glass.end", b, "ok", map[string]any{"cause": cause, "login": b.Login, "sessions": b.Sessions})
	})
	if err != nil || b.State != Ending {
		return b, err
	}
	if b.Login != "" {
		if err := s.drop(ctx, b); err != nil {
			s.opt.Logger.WarnContext(ctx, "login of an ended break-glass access is not dropped yet", "access", id, "login", b.Login, "error", err)
			return b, nil // it is known to be ending, and who looks at it goes on
		}
	}
	return s.change(ctx, id, func(ctx context.Context, tx pgx.Tx, b Session) (Session, error) {
		if b.State == Ended {
			return b, nil
		}
		return one(ctx, tx, `update break_glass as b set state = 'ended', ended_at = clock_timestamp() where id = $1 returning `+columns, id)
	})
}

// drop drops the login wherever the tenant's database is or was: a move may
// have taken it to another shard since the login was made.
func (s *Service) drop(ctx context.Context, b Session) error {
	rows, err := s.store.Pool().Query(ctx, `select shard from databases where name = $1 union select shard from placements where database = $1`, b.Database)
	if err != nil {
		return catalog.Classify(err)
	}
	shards, err := pgx.CollectRows(rows, pgx.RowTo[shardmap.ShardID])
	if err != nil {
		return catalog.Classify(err)
	}
	var failed []error
	for _, on := range shards {
		if err := s.servers.Drop(ctx, on, b.Database, b.Login); err != nil {
			failed = append(failed, fmt.Errorf("shard %s: %w", on, err))
		}
	}
	return errors.Join(failed...)
}

// look records the sessions that logins have at the servers.
func (k *keeper) look(ctx context.Context, open map[string]Session) error {
	if len(open) == 0 {
		return nil
	}
	databases := make([]string, 0, len(open))
	for _, b := range open {
		databases = append(databases, b.Database)
	}
	rows, err := k.store.Pool().Query(ctx, `select distinct d.shard from databases d join shards s on s.id = d.shard
		where d.name = any($1) and d.state in ('assigned', 'target', 'retired') and s.state <> 'down'`, databases)
	if err != nil {
		return catalog.Classify(err)
	}
	shards, err := pgx.CollectRows(rows, pgx.RowTo[shardmap.ShardID])
	if err != nil {
		return catalog.Classify(err)
	}
	var failed []error
	for _, on := range shards {
		failed = append(failed, k.lookAt(ctx, on, open))
	}
	return errors.Join(failed...)
}

func (k *keeper) lookAt(ctx context.Context, on shardmap.ShardID, open map[string]Session) error {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	sessions, err := k.servers.Sessions(ctx, on)
	if err != nil {
		return fmt.Errorf("shard %s: %w", on, err)
	}
	for _, one := range sessions {
		b, ok := open[one.User]
		if !ok {
			continue
		}
		key := sessionKey{one.PID, one.Since.UnixNano()}
		if k.seen[b.ID] == nil {
			k.seen[b.ID] = map[sessionKey]bool{}
		}
		if k.seen[b.ID][key] {
			continue
		}
		if err := k.note(ctx, b.ID, on, one); err != nil {
			return err
		}
		k.seen[b.ID][key] = true
	}
	return nil
}

// note writes down one session, if no other replica did: what began after the
// newest that is written down is new.
func (k *keeper) note(ctx context.Context, id string, on shardmap.ShardID, one shard.TempSession) error {
	_, err := k.change(ctx, id, func(ctx context.Context, tx pgx.Tx, b Session) (Session, error) {
		if b.State != Open || b.LastUsedAt != nil && !one.Since.After(*b.LastUsedAt) {
			return b, nil
		}
		tag, err := tx.Exec(ctx, `update break_glass set sessions = sessions + 1, last_used_at = $2 where id = $1`, id, one.Since)
		if err != nil || tag.RowsAffected() == 0 || b.Sessions >= maxRecorded {
			return b, catalog.Classify(err)
		}
		return b, k.record(ctx, tx, catalog.Actor{Name: b.AskedBy, Role: "admin", Reason: b.Reason, Address: one.From}, "break-glass.use", b, "ok",
			map[string]any{"login": b.Login, "shard": on, "since": one.Since.UTC(), "program": clip(one.Program)})
	})
	return err
}

// clip bounds what a client calls itself.
func clip(s string) string {
	r := []rune(s)
	return string(r[:min(len(r), 64)])
}
