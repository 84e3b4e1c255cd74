package adminapi

import (
	"context"
	"strconv"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/rebalance"
)

func (a *API) applyRebalancePlan(ctx context.Context, c *call) (answer, error) {
	id := c.params.ByName("plan")
	c.about("plan", id)
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	return begun(a.Rebalance.ApplyPlan(ctx, id, c.actor, c.key))
}

func (a *API) rebalanceStatus(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query); err != nil {
		return answer{}, err
	}
	return a.showRebalance(ctx)
}

func (a *API) showRebalance(ctx context.Context) (answer, error) {
	st, err := a.Rebalance.Status(ctx)
	if err != nil {
		return answer{}, err
	}
	doc := api.RebalanceStatus{Auto: api.AutoMode{On: st.Auto, By: st.AutoBy, Reason: st.AutoReason, At: utc(st.AutoAt), LookedAt: utc(st.LookedAt), Says: st.Says}}
	if st.Run != nil {
		run := runDoc(st.Run)
		doc.Run = &run
	}
	if st.PausedAt != nil && st.Run != nil && !st.Run.Operation.State.Final() {
		doc.Paused = &api.Pause{By: st.PausedBy, Reason: st.PausedReason, At: st.PausedAt.UTC()}
	}
	return ok(doc)
}

func (a *API) getRebalanceRun(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query); err != nil {
		return answer{}, err
	}
	id, err := c.operationID()
	if err != nil {
		return answer{}, err
	}
	run, err := a.Rebalance.RunStatus(ctx, id)
	if err != nil {
		return answer{}, err
	}
	return ok(runDoc(run))
}

func (a *API) listRebalanceMoves(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query, "limit", "cursor"); err != nil {
		return answer{}, err
	}
	id, err := c.operationID()
	if err != nil {
		return answer{}, err
	}
	p, err := readPage("rebalance-moves", c.query)
	if err != nil {
		return answer{}, err
	}
	after := 0
	if p.after != "" {
		if after, err = strconv.Atoi(p.after); err != nil {
			return answer{}, invalidParameter("cursor", "is no cursor of this list")
		}
	}
	moves, err := a.Rebalance.Moves(ctx, id, after, p.limit+1)
	if err != nil {
		return answer{}, err
	}
	next := ""
	if len(moves) > p.limit {
		moves = moves[:p.limit]
		next = strconv.Itoa(moves[p.limit-1].N)
	}
	return ok(pageOf("rebalance-moves", moves, next, runMoveDoc))
}

func (a *API) pauseRebalance(ctx context.Context, c *call) (answer, error) {
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	return begun(a.Rebalance.Pause(ctx, c.actor))
}

func (a *API) resumeRebalance(ctx context.Context, c *call) (answer, error) {
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	return begun(a.Rebalance.Resume(ctx, c.actor))
}

func (a *API) cancelRebalance(ctx context.Context, c *call) (answer, error) {
	var in api.CancelRebalance
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	return begun(a.Rebalance.Cancel(ctx, in.AtOnce, c.actor))
}

func (a *API) setAutoMode(ctx context.Context, c *call) (answer, error) {
	var in api.SetAutoMode
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	if err := a.Rebalance.SetAuto(ctx, in.On, c.actor); err != nil {
		return answer{}, err
	}
	return a.showRebalance(ctx)
}

func (a *API) getDrain(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query); err != nil {
		return answer{}, err
	}
	id, err := c.shardID()
	if err != nil {
		return answer{}, err
	}
	d, err := a.Rebalance.Draining(ctx, id)
	if err != nil {
		return answer{}, err
	}
	doc := api.ShardDrain{Shard: id, State: string(d.Shard.State), Tenants: d.Living, Deleted: d.Deleted, Leftovers: d.Leftovers, GoneAfter: utc(d.Gone), Empty: d.Empty()}
	if d.Drain != nil {
		doc.Was, doc.BegunBy, doc.Reason, doc.BegunAt = string(d.Drain.Was), d.Drain.BegunBy, d.Drain.Reason, utc(&d.Drain.BegunAt)
	}
	if d.Run != nil {
		run := operationDoc(d.Run)
		doc.Run = &run
	}
	return ok(doc)
}

func (a *API) drainShard(ctx context.Context, c *call) (answer, error) {
	id, err := c.shardID()
	if err != nil {
		return answer{}, err
	}
	var in api.DrainShard
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	if c.quiet = in.DryRun; in.DryRun {
		if err := a.Rebalance.CheckDrain(ctx, id); err != nil {
			return answer{}, err
		}
		return a.getDrain(ctx, c)
	}
	return begun(a.Rebalance.Drain(ctx, id, c.actor, c.key))
}

func (a *API) undrainShard(ctx context.Context, c *call) (answer, error) {
	id, err := c.shardID()
	if err != nil {
		return answer{}, err
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	if _, err := a.Rebalance.Undrain(ctx, id, c.actor); err != nil {
		return answer{}, err
	}
	return a.showShard(ctx, id, 200)
}

func runDoc(r *rebalance.RunStatus) api.RebalanceRun {
	left, moved := r.Counts[catalog.MoveLeft], r.Counts[catalog.MoveMoved]
	doc := api.RebalanceRun{Operation: operationDoc(r.Operation), Plan: r.Plan, Drain: r.Drain, Trigger: r.Trigger, Must: r.Must,
		Plans: r.Plans, Replanned: r.Replanned, Left: left.Moves, Moving: r.Counts[catalog.MoveRunning].Moves, Moved: moved.Moves,
		Failed: r.Counts[catalog.MoveFailed].Moves, GivenUp: r.Counts[catalog.MoveGivenUp].Moves,
		BytesLeft: left.Bytes, BytesMoved: moved.Bytes, Running: []api.RebalanceMove{}}
	if !r.Operation.State.Final() {
		doc.Wait = r.Wait
	}
	for _, m := range r.Running {
		doc.Running = append(doc.Running, runMoveDoc(m))
	}
	for _, ref := range r.Refused {
		doc.Refused = append(doc.Refused, api.PlanRefusal{Tenant: ref.Tenant, Constraint: string(ref.Constraint), Detail: ref.Detail})
	}
	return doc
}

func runMoveDoc(m rebalance.RunMove) api.RebalanceMove {
	doc := api.RebalanceMove{N: m.N, Tenant: m.Tenant, From: m.From, To: m.To, Bytes: m.Bytes, Kind: m.Kind, Why: m.Why, State: string(m.State),
		Operation: m.RebalanceMove.Operation, BegunAt: utc(m.BegunAt), EndedAt: utc(m.EndedAt), Error: m.Error}
	if m.Operation != nil {
		p := operationDoc(m.Operation).Progress
		doc.Progress = &p
	}
	return doc
}
