package move

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/stream"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/sleep"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	// inspectFor bounds one look at one soak.
	inspectFor = time.Minute
	// maxStrikes is how many looks in a row may find that a change could not be
	// applied at the old place, and none after it.
	maxStrikes = 3
)

// Run looks after all soaks until ctx ends; then it returns nil. It ends those
// whose time is over, and those that lead back no more or cost too much: a slot
// that nobody thinks of keeps its server's log until the disk is full. Of
// several replicas each looks at others.
func (s *Service) Run(ctx context.Context) error {
	k := keeper{Service: s, strikes: map[string]strikes{}}
	for ctx.Err() == nil {
		if err := errors.Join(k.boundUnbegun(ctx), k.round(ctx)); err != nil && ctx.Err() == nil {
			s.opt.Logger.WarnContext(ctx, "soaks are not looked after", "error", err)
		}
		_ = sleep.For(ctx, jitter(s.opt.SoakEvery/2)) // only its context ends it early
	}
	return nil
}

// keeper is the memory of Run.
type keeper struct {
	*Service
	strikes map[string]strikes // by the move's operation
	next    time.Time          // when links are looked at whose soak has not begun
}

// strikes are looks that found the old place failing at the same change.
type strikes struct {
	confirmed string
	errors    int64
	n         int
}

// round looks at every soak that is due.
func (k *keeper) round(ctx context.Context) error {
	for {
		soak, err := k.store.SoakToLookAt(ctx, k.opt.SoakEvery)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := k.look(ctx, soak); err != nil && ctx.Err() == nil {
			k.opt.Logger.WarnContext(ctx, "soak is not looked after", "operation", soak.Operation, "tenant", soak.Tenant, "error", err)
		}
	}
}

// boundUnbegun drops slots for a way back that cost too much before their soak
// has begun: after the flip a comparison, or a server that is waited for, may
// come before it, and before the flip the moment to cut over. The move then ends without a soak.
func (k *keeper) boundUnbegun(ctx context.Context) error {
	if time.Now().Before(k.next) {
		return nil
	}
	k.next = time.Now().Add(k.opt.SoakEvery)
	for _, kind := range []string{Kind, KindReverse} {
		for after, more := "", true; more; {
			ops, next, err := k.engine.List(ctx, operation.Filter{Kind: kind, Unfinished: true}, catalog.Page{After: after, Limit: 1000})
			if err != nil {
				return err
			}
			for _, op := range ops {
				var d Doc
				if err := json.Unmarshal(op.Data, &d); err != nil || d.Back == "" || !slices.Contains([]string{"cutover", "open", "verify", "soak"}, op.Step) {
					continue // none, or none yet
				}
				if err := k.boundLink(ctx, op, &d); err != nil && ctx.Err() == nil {
					k.opt.Logger.WarnContext(ctx, "the way back that a move makes is not looked after", "operation", op.ID, "tenant", op.Tenant, "error", err)
				}
			}
			after, more = next, next != ""
		}
	}
	return nil
}

func (k *keeper) boundLink(ctx context.Context, op *operation.Operation, d *Doc) error {
	ctx, cancel := context.WithTimeout(ctx, inspectFor)
	defer cancel()
	return k.bound(ctx, catalog.Soak{Operation: op.ID, Tenant: op.Tenant, Database: d.database(), Home: d.To, Link: d.Back})
}

// look ends a soak if there is a reason to.
func (k *keeper) look(ctx context.Context, soak catalog.Soak) error {
	ctx, cancel := context.WithTimeout(ctx, inspectFor)
	defer cancel()
	var why string
	var err error
	switch {
	case soak.State == catalog.Reversing: // its operation ends or fails by itself, if the servers let it
		return k.bound(ctx, soak)
	case soak.State == catalog.Ending:
		why = soak.Reason
	case soak.Due:
		why = "its time was over"
	default:
		why, err = k.inspect(ctx, soak)
	}
	if why == "" || err != nil {
		return err
	}
	home, err := k.connect(ctx, soak.Home, soak.Database)
	if err != nil && !isGone(err) {
		return err // nothing can be ended there now
	}
	defer closeConn(home)
	delete(k.strikes, soak.Operation)
	return k.end(ctx, soak, why, home)
}

// inspect looks at the link and says why the soak is to end, if it is.
func (k *keeper) inspect(ctx context.Context, soak catalog.Soak) (why string, err error) {
	t, err := k.store.GetTenant(ctx, soak.Tenant)
	if err != nil {
		return "", err
	}
	if t.Placement.State == shardmap.Deleted {
		return "the tenant was deleted", nil
	}
	home, err := k.connect(ctx, soak.Home, soak.Database)
	if err != nil {
		return "", err
	}
	defer closeConn(home)
	link, err := stream.ReadLink(ctx, home, soak.Link)
	switch {
	case errors.Is(err, stream.ErrNoSlot):
		return "its replication slot is gone", nil
	case err != nil:
		return "", err
	case link.Lost:
		return "the server gave up the log that it kept for the old place", nil
	case link.Kept > k.opt.SoakMaxWAL:
		return fmt.Sprintf("%.1f MB of the server's log were kept for the old place, and %.1f MB are allowed", float64(link.Kept)/1e6, float64(k.opt.SoakMaxWAL)/1e6), nil
	}
	now, err := schema.Fingerprint(ctx, home)
	if err != nil {
		return "", err
	}
	if now != soak.Fingerprint {
		return "the tenant's schema changed", nil
	}
	trouble, broken := k.atOldPlace(ctx, soak, link)
	if broken {
		return trouble, nil
	}
	return "", k.store.NoteSoak(ctx, soak.Operation, link.Kept, trouble)
}

// atOldPlace says what is wrong there, and whether that is for good. A place
// that is out of reach may come back; what its absence costs is bounded.
func (k *keeper) atOldPlace(ctx context.Context, soak catalog.Soak, link stream.Link) (trouble string, broken bool) {
	old, err := k.connect(ctx, soak.Old, soak.Database)
	if isGone(err) {
		return "the old place is gone", true
	}
	if err != nil {
		return "the old place can't be reached: " + err.Error(), false
	}
	defer closeConn(old)
	n, err := stream.ApplyErrors(ctx, old, soak.Link)
	if err != nil {
		return err.Error(), false
	}
	before := k.strikes[soak.Operation]
	if link.Confirmed != before.confirmed {
		before.n = 0
	} else if n > before.errors {
		before.n++
	}
	before.confirmed, before.errors = link.Confirmed, n
	k.strikes[soak.Operation] = before
	switch {
	case before.n >= maxStrikes:
		return fmt.Sprintf("changes can't be applied at the old place: %d errors; see the log of its Postgres", n), true
	case before.n > 0:
		return fmt.Sprintf("a change could not be applied at the old place, %d times", n), false
	case !link.Connected:
		return "the old place is not reading", false
	}
	return "", false
}

// end starts to end a soak. While another operation has the tenant, which may
// take hours, it is written down that there is no way back any more, and the
// slot dropped: the rest can wait. Only a reverse that was asked for in time goes first.
// home is an admin connection to the database there; nil: it is gone.
func (k *keeper) end(ctx context.Context, soak catalog.Soak, why string, home *pgx.Conn) error {
	actor := catalog.Actor{Name: "system", Role: "system", Reason: why}
	var err error
	if soak.State == catalog.Soaking {
		_, err = k.begin(ctx, completeSpec(soak, why, actor, ""), soak, "tenant.move.complete")
	} else {
		_, err = k.engine.Start(ctx, completeSpec(soak, why, actor, ""))
	}
	if !errors.Is(err, catalog.ErrBusy) {
		return err
	}
	reverses, _, err := k.engine.List(ctx, operation.Filter{Kind: KindReverse, Tenant: soak.Tenant, Unfinished: true}, catalog.Page{Limit: 1})
	if err != nil {
		return err
	}
	if len(reverses) > 0 {
		return k.bound(ctx, soak)
	}
	err = k.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := k.store.SetSoakState(ctx, tx, soak.Operation, []catalog.SoakState{catalog.Soaking}, catalog.Ending, why)
		return err
	})
	if errors.Is(err, catalog.ErrConflict) { // it is being taken back, this very moment
		return nil
	}
	if err != nil || home == nil {
		return err
	}
	return stream.DropSlot(ctx, home, soak.Link)
}

// bound drops the slot of a link that costs too much though an operation wants
// it: that may wait for a server that never comes back, also to be undone.
func (k *keeper) bound(ctx context.Context, soak catalog.Soak) error {
	home, err := k.connect(ctx, soak.Home, soak.Database)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer closeConn(home)
	link, err := stream.ReadLink(ctx, home, soak.Link)
	if errors.Is(err, stream.ErrNoSlot) {
		return nil
	}
	if err != nil || link.Kept <= k.opt.SoakMaxWAL {
		return err
	}
	k.opt.Logger.WarnContext(ctx, "move: a way back that an operation works on is given up: too much of the log was kept for it",
		"operation", soak.Operation, "tenant", soak.Tenant, "shard", soak.Home, "bytes", link.Kept)
	return stream.DropSlot(ctx, home, soak.Link)
}
