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
	"github.com/freehold-db/freehold/internal/sleep"
)

const (
	askFor   = 5 * time.Second        // that nodes may take for one answer
	askAgain = 250 * time.Millisecond // after one that was not enough
	endFor   = 40 * time.Second       // that sessions by old logins may take to come to rest: more than a statement may
	endEvery = 50 * time.Millisecond
)

// tell has the nodes go over. It ends with every node's word, or when they had
// their time; a node that answers, but is not done, is waited for longer.
func (s *Service) tell(ctx context.Context, r *run) error {
	if now := time.Now(); r.Data.ToldAt.IsZero() || now.Before(r.Data.ToldAt) { // by another clock, perhaps
		r.Data.ToldAt = now
		if err := r.Save(); err != nil {
			return err
		}
	}
	d := &r.Data.Receipt
	told, err := s.nodes.Renew(ctx, r.Op.Tenant, r.Data.Generation, min(askFor, s.opt.TellFor))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	d.Nodes, d.Renewed, d.Note = told.Nodes, told.Done(), ""
	if err == nil && d.Renewed == d.Nodes {
		return r.SetReceipt(d)
	}
	d.Note = fmt.Sprintf("%d of %d nodes did not say that they went over", d.Nodes-d.Renewed, d.Nodes)
	if err != nil {
		d.Note = "nodes could not be told: " + err.Error()
	}
	patience := s.opt.TellFor
	for _, a := range told.Acks {
		switch {
		case a.Trouble != "":
			d.Note, patience = fmt.Sprintf("node %s can't go over: %s", a.Node, a.Trouble), s.opt.TroubleFor
		case !a.Done: // its requests by the old logins are to end, or it can't read the new ones yet
			patience = s.opt.TroubleFor
		}
	}
	if time.Since(r.Data.ToldAt) < patience {
		return operation.Wait(askAgain, "every node to use the new logins: "+d.Note)
	}
	s.log.WarnContext(ctx, "old logins are closed without every node's word", "tenant", r.Op.Tenant, "why", d.Note)
	return r.SetReceipt(d)
}

// closeOld closes the turn of before, and ends what is left of its sessions:
// those that are at rest, and the others when they had time to come to it.
func (s *Service) closeOld(ctx context.Context, r *run) error {
	old := r.Data.Turn.Other()
	err := s.owning(ctx, r, reserveFor, func(conn *pgx.Conn) error {
		if err := shard.CloseTurn(ctx, conn, r.Data.Database, old); err != nil {
			return err
		}
		if err := failpoint.Hit("rotation/closed"); err != nil {
			return err
		}
		return s.endSessions(ctx, r, conn)
	})
	if err != nil {
		return err
	}
	return r.SetReceipt(r.Data.Receipt)
}

func (s *Service) endSessions(ctx context.Context, r *run, conn *pgx.Conn) error {
	began := time.Now()
	for first := true; ; first = false {
		n, err := shard.EndTurn(ctx, conn, r.Data.Database, r.Data.Turn.Other(), time.Since(began) > endFor)
		if err != nil {
			return err
		}
		if first {
			r.Data.Receipt.Ended = n
		}
		if n == 0 {
			return nil
		}
		if time.Since(began) > 2*endFor {
			return errors.New("sessions by old logins do not end")
		}
		if err := sleep.For(ctx, endEvery); err != nil {
			return err
		}
	}
}
