package move

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// UpgradePlan says what it means to drain one shard onto another, usually a
// newer one: the preflight of each tenant's move.
type UpgradePlan struct {
	From, To UpgradeEnd
	// Room is how many more databases the target may take; negative: no bound.
	Room int
	// Rate is the bytes a second by which times are estimated: the median of
	// the latest moves' if Measured, else an assumption.
	Rate     float64
	Measured bool
	// Tenants is one page of those on the shard, by ID; Next the cursor of the page after it.
	Tenants []Prospect
	Next    string
}

// UpgradeEnd is one of the two shards.
type UpgradeEnd struct {
	Shard   shardmap.ShardID
	Version string // of its Postgres: "15.18"
}

// Prospect is what the move of one tenant would meet.
type Prospect struct {
	Tenant shardmap.TenantID
	Tables int
	Bytes  int64 // of its tables on disk, without indexes
	// Estimate of the whole move, most of which holds nobody.
	Estimate time.Duration
	// Refusals stand in the way, each with its remedy; Waits go away by themselves.
	Refusals, Waits, Warnings []survey.Finding
}

// Feasible tells whether the move could begin.
func (p Prospect) Feasible() bool { return len(p.Refusals) == 0 }

const (
	// assumedRate is a quiet machine's under half of what it can do, in bytes a second.
	assumedRate = 40e6
	// telling is from which size on a move says something about the rate.
	telling = 8 << 20
	// overhead is what a move of nothing takes.
	overhead = 5 * time.Second
	// looksAtOnce bounds the preflights at one time, prospectFor each of them.
	looksAtOnce = 4
	prospectFor = 30 * time.Second
)

// PlanUpgrade looks at the tenants on shard from, one page of them, as if each
// were moved to the other shard, and changes nothing. Errors:
// catalog.ErrNotFound (either shard), ErrConflict (the same shard twice, or the
// target takes no tenants).
func (s *Service) PlanUpgrade(ctx context.Context, from, to shardmap.ShardID, page catalog.Page) (UpgradePlan, error) {
	plan := UpgradePlan{From: UpgradeEnd{Shard: from}, To: UpgradeEnd{Shard: to}, Room: -1}
	if _, err := s.store.GetShard(ctx, from); err != nil {
		return plan, err
	}
	target, err := s.store.GetShardUsage(ctx, to)
	if err != nil {
		return plan, err
	}
	switch {
	case from == to:
		return plan, fmt.Errorf("shard %s can't be drained onto itself: %w", from, catalog.ErrConflict)
	case target.State != catalog.ShardActive:
		return plan, fmt.Errorf("shard %s is %s and takes no tenants; uncordon it or choose another: %w", to, target.State, catalog.ErrConflict)
	}
	if target.MaxDatabases > 0 {
		plan.Room = max(0, target.MaxDatabases-target.Databases)
	}
	for _, end := range []*UpgradeEnd{&plan.From, &plan.To} {
		if end.Version, err = s.versionOf(ctx, end.Shard); err != nil {
			return plan, err
		}
	}
	if plan.Rate, plan.Measured, err = s.copyRate(ctx); err != nil {
		return plan, err
	}
	tenants, next, err := s.store.ListTenants(ctx, catalog.TenantFilter{Shard: from}, page)
	if err != nil {
		return plan, err
	}
	plan.Next, plan.Tenants = next, make([]Prospect, len(tenants))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(looksAtOnce)
	for i, t := range tenants {
		g.Go(func() error {
			plan.Tenants[i] = s.prospect(gctx, t.ID, to, plan.Rate)
			return gctx.Err()
		})
	}
	return plan, g.Wait()
}

// prospect is the preflight of one move. That it could not be made is a reason like any other.
func (s *Service) prospect(ctx context.Context, id shardmap.TenantID, to shardmap.ShardID, rate float64) Prospect {
	ctx, cancel := context.WithTimeout(ctx, prospectFor)
	defer cancel()
	p := Prospect{Tenant: id}
	r := &run{Op: &operation.Operation{ID: "preflight"}, DryRun: true, Data: Doc{Request: Request{Tenant: id, To: to, MaxPause: DefaultMaxPause}}}
	found, size, err := s.look(ctx, r)
	switch {
	case errors.Is(err, catalog.ErrConflict):
		p.Refusals = []survey.Finding{{Level: survey.Refuse, Code: "state", Reason: err.Error()}}
	case err != nil:
		p.Refusals = []survey.Finding{{Level: survey.Refuse, Code: "unseen", Reason: "it could not be looked at: " + err.Error(), Remedy: "see whether both servers answer, then ask again"}}
	default:
		p.Refusals, p.Waits, p.Warnings = survey.Levels(found)
		p.Tables, p.Bytes = size.tables, size.bytes
		p.Estimate = overhead + time.Duration(float64(size.bytes)/rate*float64(time.Second))
	}
	return p
}

func (s *Service) versionOf(ctx context.Context, on shardmap.ShardID) (version string, err error) {
	conn, err := s.connect(ctx, on, maintenance)
	if err != nil {
		return "", err
	}
	defer closeConn(conn)
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.split_part(pg_catalog.current_setting('server_version'), ' ', 1)").Scan(&version); err != nil {
		return "", fmt.Errorf("shard %s: version: %w", on, err)
	}
	return version, nil
}

// copyRate is the median of the latest moves' rates, in bytes a second.
func (s *Service) copyRate(ctx context.Context) (rate float64, measured bool, err error) {
	ops, _, err := s.engine.List(ctx, operation.Filter{Kind: Kind, States: []operation.State{operation.Done}}, catalog.Page{Limit: 50})
	if err != nil {
		return 0, false, err
	}
	var rates []float64
	for _, op := range ops {
		var rec Receipt
		if json.Unmarshal(op.Receipt, &rec) == nil && rec.Bytes >= telling && rec.CopyMBPerS > 0 {
			rates = append(rates, rec.CopyMBPerS*1e6)
		}
	}
	if len(rates) == 0 {
		return assumedRate, false, nil
	}
	slices.SortFunc(rates, cmp.Compare[float64])
	return rates[len(rates)/2], true, nil
}
