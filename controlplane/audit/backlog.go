package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/freehold-db/freehold/controlplane/catalog"
)

// ErrBacklog: so many records wait to be in the log that no more changes are taken.
var ErrBacklog = errors.New("too many audit records wait to be in the audit log")

// Backlog is what waits in the catalog's outbox.
type Backlog struct {
	Records int64         // counted no further than one more than Max
	Oldest  time.Duration // that the oldest has waited; 0: none waits
	Max     int64         // the bound
	// Why says what keeps the relay of this replica from carrying them: "away",
	// "diverged" or "tampered"; empty: it carries.
	Why string
}

// Full tells whether the bound is reached.
func (b Backlog) Full() bool { return b.Records >= b.Max }

// backlogAge is how long one look serves all who ask.
const backlogAge = time.Second

// Outbox watches the records that wait for the log, and has changes refused
// when there are too many. It is safe for concurrent use.
type Outbox struct {
	store *catalog.Store
	log   *Log
	most  int64

	mu   sync.Mutex
	last Backlog
	at   time.Time
}

// NewOutbox watches the outbox of store, which is bounded by most records.
func NewOutbox(store *catalog.Store, log *Log, most int64) *Outbox {
	return &Outbox{store: store, log: log, most: most}
}

// Look tells what waits, as of a second ago at most. Errors: the catalog's.
func (o *Outbox) Look(ctx context.Context) (Backlog, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.at.IsZero() && time.Since(o.at) < backlogAge {
		return o.last, nil
	}
	b := Backlog{Max: o.most, Why: why(o.log.Trouble())}
	var err error
	if b.Records, b.Oldest, err = o.store.AuditWaiting(ctx, o.most+1); err != nil {
		return b, err
	}
	o.last, o.at = b, time.Now()
	return b, nil
}

// Room refuses a change while the outbox is at its bound: what can't be shown
// to have been recorded does not happen. Errors: [ErrBacklog], the catalog's.
func (o *Outbox) Room(ctx context.Context) error { return o.below(ctx, o.most) }

// RoomForRefusals is for what anybody can have recorded, being refused: it has half
// of the outbox, so that who may change nothing can't keep those from it who may.
// Errors: as Room's.
func (o *Outbox) RoomForRefusals(ctx context.Context) error { return o.below(ctx, (o.most+1)/2) }

func (o *Outbox) below(ctx context.Context, bound int64) error {
	b, err := o.Look(ctx)
	if err == nil && b.Records >= bound {
		err = fmt.Errorf("%w: %d or more, the oldest for %s", ErrBacklog, bound, b.Oldest.Round(time.Second))
	}
	return err
}

// why is a word for what is against carrying records.
func why(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrDiverged):
		return "diverged"
	case errors.Is(err, ErrTampered):
		return "tampered"
	}
	return "away"
}
