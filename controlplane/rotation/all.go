package rotation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// A rotation of all is an operation of one step that is taken up again and
// again: it walks what was issued before it began, by name, and keeps a bounded
// number of rotations under way, which are operations of their own. Whatever dies
// and whenever, the next worker goes on from the name that was reached; a
// rotation that was begun is found again by its request key.

// AllDoc is the document of a rotation of all.
type AllDoc struct {
	Before   time.Time `json:"before,omitzero"` // what was issued since is new enough
	AtOnce   int       `json:"at_once"`
	After    string    `json:"after,omitempty"` // the name that was reached
	AtEnd    bool      `json:"at_end,omitempty"`
	Total    int       `json:"total"`
	Rotated  int       `json:"rotated"`
	Gone     int       `json:"gone,omitempty"`
	Failures int       `json:"failures,omitempty"`
	// Running are rotations under way by name, Later what could not begin, and since when.
	Running map[string]string    `json:"running,omitempty"`
	Later   map[string]time.Time `json:"later,omitempty"`
	// Failed are the first of those that failed, and why.
	Failed map[string]string `json:"failed,omitempty"`
}

// AllReceipt says what came of a rotation of all.
type AllReceipt struct {
	Rotated  int               `json:"rotated"`
	Gone     int               `json:"gone,omitempty"` // deleted meanwhile
	Failures int               `json:"failures"`
	Failed   map[string]string `json:"failed,omitempty"` // the first of them, and why
}

type allRun = operation.Run[AllDoc]

const (
	// DefaultAtOnce is how many rotations are under way at once, MaxAtOnce the most.
	DefaultAtOnce, MaxAtOnce = 4, 64

	allTick    = 500 * time.Millisecond
	laterFor   = 10 * time.Minute // that something busy is waited for
	laterMax   = 1000
	failedMax  = 100
	retryAfter = 3 * time.Second
)

func (s *Service) allKind() operation.Kind[AllDoc] {
	return operation.Kind[AllDoc]{Name: KindAll, Steps: []operation.Step[AllDoc]{
		{Name: "rotate", Title: "rotating credentials", Do: s.advance, Timeout: 10 * time.Minute, MaxAttempts: 1 << 20, Check: s.checkAll},
	}}
}

// RotateAll starts to rotate every credential of the fleet, atOnce (0: a few) at
// a time. Errors: catalog.ErrBusy (one is under way), ErrKeyReused.
func (s *Service) RotateAll(ctx context.Context, atOnce int, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	return s.begin(ctx, allSpec(atOnce, actor, requestKey), "secret.rotate", "fleet", func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `lock table credentials in share row exclusive mode`); err != nil { // who begins at the same time waits
			return catalog.Classify(err)
		}
		var busy bool
		if err := tx.QueryRow(ctx, `select exists (select from operations where kind = $1 and finished_at is null)`, KindAll).Scan(&busy); err != nil {
			return catalog.Classify(err)
		}
		if busy {
			return fmt.Errorf("%w: all credentials are being rotated", catalog.ErrBusy)
		}
		return nil
	})
}

// DryRunAll says how much RotateAll would rotate.
func (s *Service) DryRunAll(ctx context.Context, atOnce int, actor catalog.Actor) ([]operation.StepPlan, error) {
	return s.engine.DryRun(ctx, allSpec(atOnce, actor, ""))
}

func allSpec(atOnce int, actor catalog.Actor, requestKey string) operation.Spec {
	if atOnce <= 0 {
		atOnce = DefaultAtOnce
	}
	return operation.Spec{Kind: KindAll, Data: AllDoc{AtOnce: min(atOnce, MaxAtOnce)}, Actor: actor, RequestKey: requestKey}
}

func (s *Service) checkAll(ctx context.Context, r *allRun) (string, error) {
	n, err := s.store.CountCredentials(ctx)
	return fmt.Sprintf("rotates %d credentials, %d at once, those of tenants without a failed request", n, r.Data.AtOnce), err
}

// advance is one look: it records what ended and begins what may begin. After an
// error it looks again; it is there until all was rotated, or somebody ends it.
func (s *Service) advance(ctx context.Context, r *allRun) error {
	over, err := s.look(ctx, r)
	switch {
	case errors.Is(err, operation.ErrLeaseLost), err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		s.log.WarnContext(ctx, "a look at the rotation of all came to nothing", "operation", r.Op.ID, "error", err)
		return operation.Again(retryAfter, operation.Progress{Percent: percent(r), Waiting: "another try: " + err.Error()})
	case over:
		return nil
	}
	p := operation.Progress{Phase: fmt.Sprintf("rotating credentials: %d of %d", r.Data.Rotated, r.Data.Total), Percent: percent(r)}
	if len(r.Data.Running) == 0 && len(r.Data.Later) > 0 {
		p.Waiting = fmt.Sprintf("%d that are busy, %s among them", len(r.Data.Later), slices.Min(slices.Collect(maps.Keys(r.Data.Later))))
	}
	return operation.Again(allTick, p)
}

func percent(r *allRun) float64 {
	if r.Data.Total == 0 {
		return 0
	}
	return min(99, 100*float64(r.Data.Rotated+r.Data.Failures+r.Data.Gone)/float64(r.Data.Total))
}

func (s *Service) look(ctx context.Context, r *allRun) (over bool, err error) {
	d := &r.Data
	if d.Before.IsZero() {
		if d.Total, err = s.store.CountCredentials(ctx); err != nil {
			return false, err
		}
		d.Before = r.Op.CreatedAt
	}
	for name, id := range d.Running {
		op, err := s.engine.Get(ctx, id)
		if err != nil {
			return false, err
		}
		if op.State.Final() {
			delete(d.Running, name)
			if op.State == operation.Done {
				d.Rotated++
			} else {
				d.fail(name, fmt.Sprintf("%s (operation %s): %s", op.State, id, op.Error))
			}
		}
	}
	for name, since := range d.Later {
		if len(d.Running) >= d.AtOnce {
			break
		}
		if err := s.beginOne(ctx, r, name, since); err != nil {
			return false, err
		}
	}
	for !d.AtEnd && len(d.Running) < d.AtOnce && len(d.Later) < laterMax {
		page, next, err := s.store.ListCredentials(ctx, catalog.CredentialFilter{Before: d.Before}, catalog.Page{Limit: d.AtOnce - len(d.Running), After: d.After})
		if err != nil {
			return false, err
		}
		for _, c := range page {
			name := string(c.Kind) + "/" + c.Subject
			if err := s.beginOne(ctx, r, name, time.Time{}); err != nil {
				return false, err
			}
			d.After = name
		}
		d.AtEnd = next == ""
	}
	if !d.AtEnd || len(d.Running) > 0 || len(d.Later) > 0 {
		return false, nil
	}
	return true, r.SetReceipt(AllReceipt{Rotated: d.Rotated, Gone: d.Gone, Failures: d.Failures, Failed: d.Failed})
}

// beginOne begins one rotation, or leaves it for later; since is when it was
// left first.
func (s *Service) beginOne(ctx context.Context, r *allRun, name string, since time.Time) error {
	d := &r.Data
	actor := r.Op.Actor
	actor.Reason = strings.TrimSuffix("rotation of all "+r.Op.ID+": "+actor.Reason, ": ")
	key := "secret-rotate-all/" + r.Op.ID + "/" + name
	kind, subject, _ := strings.Cut(name, "/")
	var op *operation.Operation
	var err error
	if catalog.CredentialKind(kind) == catalog.ShardCredential {
		op, err = s.RotateShard(ctx, shardmap.ShardID(subject), actor, key)
	} else {
		op, err = s.Rotate(ctx, shardmap.TenantID(subject), actor, key)
	}
	switch {
	case err == nil:
		delete(d.Later, name)
		if d.Running == nil {
			d.Running = map[string]string{}
		}
		d.Running[name] = op.ID
	case errors.Is(err, catalog.ErrBusy):
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) > laterFor {
			delete(d.Later, name)
			d.fail(name, err.Error())
			return nil
		}
		if d.Later == nil {
			d.Later = map[string]time.Time{}
		}
		d.Later[name] = since
	case errors.Is(err, catalog.ErrConflict), errors.Is(err, catalog.ErrNotFound): // deleted, or down
		delete(d.Later, name)
		d.Gone++
	default:
		return err
	}
	return nil
}

func (d *AllDoc) fail(name, why string) {
	d.Failures++
	if len(d.Failed) < failedMax {
		if d.Failed == nil {
			d.Failed = map[string]string{}
		}
		d.Failed[name] = why
	}
}
