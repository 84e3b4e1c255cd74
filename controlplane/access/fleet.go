package access

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/shardmap"
)

// Plan is a named set of limits and how many tenants name it.
type Plan struct {
	Name    string
	Limits  access.Limits
	Tenants int  // those that name it; the others have the default plan
	Default bool // of the fleet
}

// Fleet is the fleet's document as it is now.
func (s *Service) Fleet(ctx context.Context) (access.Fleet, error) { return Fleet(ctx, s.store) }

// Plans lists all plans by name. There are at most access.MaxPlans.
func (s *Service) Plans(ctx context.Context) ([]Plan, error) {
	plans, err := many(ctx, s.store.Pool(), pgx.RowToStructByPos[Plan], `select p.name, p.limits,
		(select count(*) from tenant_access a where a.plan = p.name), p.name is not distinct from f.default_plan
		from plans p, fleet_access f order by p.name collate "C"`)
	if err != nil {
		return nil, fmt.Errorf("list plans: %w", err)
	}
	return plans, nil
}

// SetPlan makes a plan or gives it other limits. Errors: ErrInvalid.
func (s *Service) SetPlan(ctx context.Context, name string, limits access.Limits, actor catalog.Actor) error {
	_, err := s.changeFleet(ctx, nil, actor, "plan.set", "plan/"+name, func(ctx context.Context, tx pgx.Tx, f *access.Fleet) (any, error) {
		if have, ok := f.Plans[name]; ok && have == limits {
			return nil, nil
		}
		f.Plans[name] = limits
		_, err := tx.Exec(ctx, `insert into plans (name, limits) values ($1, $2) on conflict (name) do update set limits = $2`, name, limits)
		return map[string]any{"limits": limits}, err
	})
	return err
}

// named bounds how many of those who use something are named.
const named = 5

// DeletePlan removes a plan that nobody has. Errors: catalog.ErrNotFound,
// ErrInUse (it is the default, or tenants name it).
func (s *Service) DeletePlan(ctx context.Context, name string, actor catalog.Actor) error {
	_, err := s.changeFleet(ctx, nil, actor, "plan.delete", "plan/"+name, func(ctx context.Context, tx pgx.Tx, f *access.Fleet) (any, error) {
		limits, ok := f.Plans[name]
		if !ok {
			return nil, fmt.Errorf("plan %s: %w", name, catalog.ErrNotFound)
		}
		if f.DefaultPlan == name {
			return nil, fmt.Errorf("plan %s: %w: it is the fleet's default plan", name, ErrInUse)
		}
		users, err := many(ctx, tx, pgx.RowTo[string], `select tenant from tenant_access where plan = $1 order by tenant limit $2`, name, named+1)
		if err != nil {
			return nil, err
		}
		if len(users) > 0 {
			return nil, fmt.Errorf("plan %s: %w by tenant %s", name, ErrInUse, some(users))
		}
		delete(f.Plans, name)
		_, err = tx.Exec(ctx, `delete from plans where name = $1`, name)
		if pg.Code(err) == pgerrcode.ForeignKeyViolation { // given to one this very moment
			return nil, fmt.Errorf("plan %s: %w", name, ErrInUse)
		}
		return map[string]any{"limits": limits}, err
	})
	return err
}

// some lists at most a few names.
func some(names []string) string {
	if len(names) > named {
		return strings.Join(names[:named], ", ") + " and more"
	}
	return strings.Join(names, ", ")
}

// FleetChange says what is to be changed; nil fields stay as they are.
type FleetChange struct {
	DefaultPlan *string // empty: none
	Policies    *[]access.Policy
}

// ChangeFleet changes what holds for every tenant. expect is the version that
// the change was made for; nil: whichever. It returns the document as it is then.
// Errors: ErrInvalid, ErrChanged, catalog.ErrNotFound (no such plan).
func (s *Service) ChangeFleet(ctx context.Context, ch FleetChange, expect *int64, actor catalog.Actor) (access.Fleet, error) {
	return s.changeFleet(ctx, expect, actor, "fleet.access", "fleet", func(_ context.Context, _ pgx.Tx, f *access.Fleet) (any, error) {
		before := *f
		details := map[string]any{}
		if ch.DefaultPlan != nil && *ch.DefaultPlan != f.DefaultPlan {
			f.DefaultPlan = *ch.DefaultPlan
			if _, ok := f.Plans[f.DefaultPlan]; !ok && f.DefaultPlan != "" {
				return nil, fmt.Errorf("plan %.70s: %w", f.DefaultPlan, catalog.ErrNotFound)
			}
			details["default_plan"] = f.DefaultPlan
		}
		if ch.Policies != nil && !slices.Equal(*ch.Policies, f.Policies) {
			f.Policies = *ch.Policies
			details["policies"] = digests(f.Policies)
		}
		if f.DefaultPlan == before.DefaultPlan && slices.Equal(f.Policies, before.Policies) {
			return nil, nil
		}
		return details, compile(f.Policies)
	})
}

// changeFleet has fn change the fleet's document, under its lock, and records
// and publishes it. Nil details: there is nothing to change.
func (s *Service) changeFleet(ctx context.Context, expect *int64, actor catalog.Actor, action, object string,
	fn func(ctx context.Context, tx pgx.Tx, f *access.Fleet) (details any, err error)) (f access.Fleet, err error) {
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if f, err = fleet(ctx, tx, " for update"); err != nil {
			return err
		}
		before := f
		f.Plans = maps.Clone(f.Plans)
		details, err := fn(ctx, tx, &f)
		if err != nil {
			return err
		}
		if details == nil {
			f = before
			return nil
		}
		if err := checkVersion("the fleet's access", f.Version, expect); err != nil {
			return err
		}
		f.Version++
		if err := errors.Join(f.Validate(), fits(f)); err != nil {
			return invalid(err)
		}
		_, err = tx.Exec(ctx, `update fleet_access set default_plan = nullif($1, ''), policies = $2`, f.DefaultPlan, list(f.Policies))
		if err != nil {
			return fmt.Errorf("%s: %w", object, catalog.Classify(err))
		}
		return s.record(ctx, tx, actor, action, object, shardmap.TenantID(""), details)
	})
	return f, err
}
