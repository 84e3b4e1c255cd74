package move

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/diff"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// KindVerify is the kind of operation that compares both sides of a move, row
// by row, while the one follows the other. It is not bound to the tenant, whose
// one unfinished operation the move itself may be, and changes nothing.
const KindVerify = "move-verify"

const (
	// sliceFor is how long a comparison works before other operations have their turn.
	sliceFor = 20 * time.Second
	// saveEvery is how much of its work a comparison loses at most when its worker dies.
	saveEvery = 2 * time.Second
	// objectsListed bounds the objects that a report lists.
	objectsListed = 500
)

// VerifyRequest asks for a comparison.
type VerifyRequest struct {
	// Of is the move's operation.
	Of string `json:"of"`
	// OnlyPKs has the report tell keys and nothing else of rows.
	OnlyPKs bool `json:"only_pks,omitempty"`
	// Sample is the percentage of rows that are compared, by ranges [100].
	Sample float64 `json:"sample,omitempty"`
	// MaxRate bounds the bytes per second that are read at each side [as much as half of one connection's time brings].
	MaxRate int64 `json:"max_rate,omitempty"`
}

// verifyDoc is the operation's document.
type verifyDoc struct {
	VerifyRequest
	At     diff.Progress `json:"at"` // of the rows
	Report Comparison    `json:"report"`
}

// Comparison is the receipt of a [KindVerify]: what was compared, and what differs.
type Comparison struct {
	Move   string            `json:"move"`
	Tenant shardmap.TenantID `json:"tenant"`
	// Serving is where clients wrote, Follower what followed it; as of the latest look.
	Serving  shardmap.ShardID `json:"serving"`
	Follower shardmap.ShardID `json:"follower"`
	Database string           `json:"database"`
	// Outcome is Equal or Mismatch once all is compared, NotVerified before.
	Outcome string  `json:"outcome"`
	Sample  float64 `json:"sample"` // percent of rows that were to be compared
	Tables  int     `json:"tables"`
	Rows    int64   `json:"rows"`
	Bytes   int64   `json:"bytes"` // of the rows, as text
	// Differ are the tables with rows that differ. Objects are the first of
	// DifferentObjects other differences: indexes, grants, settings and the like.
	Differ           []diff.Table  `json:"differ"`
	Objects          []diff.Object `json:"objects"`
	DifferentObjects int           `json:"different_objects"`
}

// Differs tells whether anything was found.
func (c Comparison) Differs() bool { return len(c.Differ) > 0 || c.DifferentObjects > 0 }

type verifyRun = operation.Run[verifyDoc]

func (s *Service) verifyKind() operation.Kind[verifyDoc] {
	return operation.Kind[verifyDoc]{Name: KindVerify, Long: true, Steps: []operation.Step[verifyDoc]{
		{Name: "objects", Title: "comparing what is no row", Do: s.verifyObjects, Timeout: 10 * time.Minute, MaxAttempts: 20},
		{Name: "rows", Title: "comparing rows", Do: s.verifyRows, Timeout: 24 * time.Hour, MaxAttempts: 20},
	}}
}

// Verify starts to compare both sides of a move that is catching up, or soaks,
// and records in the audit log who asked for it. The same actor and request
// key with the same arguments return the same operation.
// Errors: catalog.ErrNotFound, ErrConflict (no move, or its sides are not tied
// now), ErrBusy (it is being compared already), ErrKeyReused.
func (s *Service) Verify(ctx context.Context, req VerifyRequest, actor catalog.Actor, requestKey string) (op *operation.Operation, err error) {
	spec := operation.Spec{Kind: KindVerify, Actor: actor, RequestKey: requestKey, Data: verifyDoc{VerifyRequest: req}}
	if requestKey != "" { // a repeated request is answered as the first was, though the move is over now
		if _, err := s.engine.FindRequest(ctx, actor.Name, requestKey); err == nil {
			return s.engine.Start(ctx, spec)
		}
	}
	tie, err := s.tied(ctx, req.Of)
	if err != nil {
		return nil, err
	}
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := s.store.LockTenant(ctx, tx, tie.tenant); err != nil { // of two requests one comes first
			return err
		}
		running, _, err := s.engine.List(ctx, operation.Filter{Kind: KindVerify, Of: req.Of, Unfinished: true}, catalog.Page{Limit: 1})
		if err != nil {
			return err
		}
		if len(running) > 0 {
			return fmt.Errorf("move %s is being compared: %w: %s %s", req.Of, catalog.ErrBusy, KindVerify, running[0].ID)
		}
		if op, err = s.engine.StartTx(ctx, tx, spec); err != nil {
			return err
		}
		return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{
			Actor: actor, Action: "move.verify", Object: "tenant/" + string(tie.tenant), Tenant: tie.tenant, Outcome: "accepted",
			Details: fmt.Appendf(nil, `{"operation":%q,"move":%q}`, op.ID, req.Of),
		})
	})
	if err != nil {
		return nil, err
	}
	return op, nil
}

// tie is what ties both sides of a move at a time.
type tie struct {
	tenant            shardmap.TenantID
	serving, follower shardmap.ShardID
	database          string
}

// errUntied: the sides of the move are not tied this moment, but will be.
var errUntied = errors.New("the target does not follow the source yet")

// tied finds out who follows whom. Errors: catalog.ErrNotFound, ErrConflict;
// errUntied (an ErrConflict too) if that may change.
func (s *Service) tied(ctx context.Context, id string) (tie, error) {
	op, err := s.engine.Get(ctx, id)
	if err != nil {
		return tie{}, err
	}
	if op.Kind != Kind && op.Kind != KindReverse {
		return tie{}, fmt.Errorf("operation %s is a %s, and only moves have two sides: %w", id, op.Kind, catalog.ErrConflict)
	}
	var d Doc
	if err := json.Unmarshal(op.Data, &d); err != nil {
		return tie{}, fmt.Errorf("document of operation %s: %w", id, err)
	}
	k, err := s.store.GetSoak(ctx, id)
	switch {
	case err == nil && (k.State == catalog.Soaking || k.State == catalog.Reversing):
		p, err := s.store.GetPlacement(ctx, k.Tenant)
		if err == nil && p.Shard != k.Home {
			err = fmt.Errorf("move %s was taken back: %w", id, catalog.ErrConflict)
		}
		return tie{d.Tenant, k.Home, k.Old, k.Database}, err
	case err != nil && !errors.Is(err, catalog.ErrNotFound):
		return tie{}, err
	}
	switch {
	case op.State == operation.Undoing || op.State.Final() && op.State != operation.Done:
		err = fmt.Errorf("move %s was taken back: there is nothing to compare: %w", id, catalog.ErrConflict)
	case op.State == operation.Done:
		err = fmt.Errorf("move %s is over and nothing ties its sides any more; what it compared itself is in its receipt: %w", id, catalog.ErrConflict)
	case op.PastNoReturn && d.Soak <= 0:
		err = fmt.Errorf("move %s is past its cutover and does not soak; it compares both sides by itself: %w", id, catalog.ErrConflict)
	case op.PastNoReturn || op.Step != "catch-up" && op.Step != "cutover":
		err = fmt.Errorf("move %s is at step %q: %w: %w", id, op.Step, errUntied, catalog.ErrConflict)
	default:
		return tie{d.Tenant, d.From.Shard, d.To, d.database()}, nil
	}
	return tie{}, err
}

// openComparison connects to both sides as they are tied now. still fails when
// they are tied otherwise or not any more: what was read since the call of it
// before may be of a target that clients write to, and shows nothing. done
// closes everything.
func (s *Service) openComparison(ctx context.Context, r *verifyRun) (c *diff.Comparison, still func() error, done func(), err error) {
	t, err := s.tied(ctx, r.Data.Of)
	if err != nil {
		return nil, nil, nil, untied(err)
	}
	still = func() error {
		now, err := s.tied(ctx, r.Data.Of)
		if err == nil && now != t {
			err = errUntied
		}
		return untied(err)
	}
	rep := &r.Data.Report
	rep.Move, rep.Tenant, rep.Serving, rep.Follower, rep.Database = r.Data.Of, t.tenant, t.serving, t.follower, t.database
	rep.Outcome, rep.Sample = NotVerified, r.Data.Sample
	if rep.Sample <= 0 {
		rep.Sample = 100
	}
	serving, follower, err := s.readers(ctx, t)
	if err != nil {
		return nil, nil, nil, err
	}
	done = func() {
		if c != nil {
			c.Close()
		}
		serving.Close()
		follower.Close()
	}
	side := func(on shardmap.ShardID, as *shard.Mover) diff.Side {
		return diff.Side{Reader: reader(as), Admin: func(ctx context.Context) (*pgx.Conn, error) { return s.connect(ctx, on, t.database) }}
	}
	c, err = diff.Open(ctx, diff.Pair{Serving: side(t.serving, serving), Follower: side(t.follower, follower)}, diff.Options{
		KeysOnly: r.Data.OnlyPKs, Sample: r.Data.Sample, Seed: r.Op.ID, MaxRate: r.Data.MaxRate,
		Waiting: func(why string) { r.Report(r.Data.progress(why)) },
	})
	if err != nil {
		done()
	}
	return c, still, done, err
}

// readers are the logins by which both sides' tables are read.
func (s *Service) readers(ctx context.Context, t tie) (serving, follower *shard.Mover, err error) {
	if serving, err = s.fleet.Mover(ctx, t.serving, t.database); err != nil {
		return nil, nil, err
	}
	if follower, err = s.fleet.Mover(ctx, t.follower, t.database); err != nil {
		serving.Close()
	}
	return serving, follower, err
}

// untied says of an error of tied what becomes of the comparison.
func untied(err error) error {
	switch {
	case errors.Is(err, errUntied):
		return operation.Wait(2*time.Second, "for the move: "+err.Error())
	case errors.Is(err, catalog.ErrConflict):
		return operation.Permanent(fmt.Errorf("the comparison was not finished: %w", err))
	}
	return err
}

func (s *Service) verifyObjects(ctx context.Context, r *verifyRun) error {
	c, still, done, err := s.openComparison(ctx, r)
	if err != nil {
		return err
	}
	defer done()
	found, err := c.Objects(ctx)
	if terr := still(); terr != nil {
		return terr
	}
	if err != nil {
		return err
	}
	r.Data.Report.DifferentObjects, r.Data.Report.Objects = len(found), found[:min(len(found), objectsListed)]
	return r.SetReceipt(r.Data.receipt())
}

// errTurn ends a slice of the work.
var errTurn = errors.New("other operations have their turn")

func (s *Service) verifyRows(ctx context.Context, r *verifyRun) error {
	c, still, done, err := s.openComparison(ctx, r)
	if err != nil {
		return err
	}
	defer done()
	begun, saved := time.Now(), time.Now()
	save := func() error {
		saved = time.Now()
		if err := r.SetReceipt(r.Data.receipt()); err != nil {
			return err
		}
		if err := r.Save(); err != nil {
			return err
		}
		return s.hit("move/verify/saved")
	}
	err = c.Rows(ctx, &r.Data.At, func(at diff.Step) error {
		if err := still(); err != nil {
			return err
		}
		r.Data.Report.Tables = at.Of.Tables
		r.Report(operation.Progress{Phase: fmt.Sprintf("table %d of %d, %s", min(at.Tables+1, at.Of.Tables), at.Of.Tables, at.Table),
			Percent: 100 * at.Share, BytesDone: int64(at.Share * float64(at.Of.Bytes)), BytesTotal: at.Of.Bytes})
		if err := s.hit("move/verify/range"); err != nil {
			return err
		}
		if time.Since(begun) > sliceFor {
			return errTurn
		}
		if time.Since(saved) > saveEvery {
			return save()
		}
		return nil
	})
	if err != nil {
		if terr := still(); terr != nil {
			return terr // and nothing is kept of what was read since it was saved
		}
		if serr := save(); serr != nil { // at another worker it goes on from here
			return errors.Join(serr, err)
		}
		if errors.Is(err, errTurn) {
			return operation.Wait(0, "its next turn")
		}
		return err
	}
	r.Data.Report.Outcome = Equal
	if rep := r.Data.receipt(); rep.Differs() {
		r.Data.Report.Outcome = Mismatch
		s.opt.Logger.Error("move: SOURCE AND TARGET DIFFER", "operation", r.Op.ID, "move", r.Data.Of, "tenant", rep.Tenant, "tables", len(rep.Differ), "objects", rep.DifferentObjects)
	}
	return r.SetReceipt(r.Data.receipt())
}

func (d *verifyDoc) progress(waiting string) operation.Progress {
	return operation.Progress{Phase: "comparing " + d.At.Table, Waiting: waiting}
}

// receipt is the report with what the rows have shown so far.
func (d *verifyDoc) receipt() Comparison {
	rep := d.Report
	rep.Tables, rep.Rows, rep.Bytes = d.At.Tables, d.At.Rows, d.At.Bytes
	rep.Differ = append([]diff.Table{}, d.At.Differ...)
	if rep.Objects == nil {
		rep.Objects = []diff.Object{}
	}
	return rep
}
