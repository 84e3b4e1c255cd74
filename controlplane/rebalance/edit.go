package rebalance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/balance/policyfile"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/placement"
	"github.com/freehold-db/freehold/internal/sleep"
	"github.com/freehold-db/freehold/shardmap"
)

// Edit is a change of what is declared: of the policy as a whole, if there is
// one, and of each shard and tenant that is named. All others stay as they are.
type Edit struct {
	Policy  *balance.Policy
	Shards  map[shardmap.ShardID]balance.Vector // zero: no bounds any more
	Tenants map[shardmap.TenantID]balance.Needs // zero: no needs any more
	Expect  *int64                              // the version it is for; nil: whichever
	DryRun  bool                                // only tell what it comes to
}

// ReadEdit reads a policy file. Errors: balance.ErrInvalid, with the line where there is one.
func ReadEdit(file []byte) (Edit, error) {
	d, err := policyfile.Parse(file)
	if err != nil {
		return Edit{}, err
	}
	e := Edit{Shards: d.Shards, Tenants: d.Tenants}
	if policyfile.HasPolicy(file) {
		e.Policy = &d.Policy
	}
	return e, nil
}

// Edited is what an edit came to.
type Edited struct {
	Stored  catalog.PlacementPolicy // as it is now
	Changes []policyfile.Change
	// Refusal is why a dry run's edit would be refused; nil if it would not.
	Refusal error
}

// Apply makes an edit, all of it or nothing. One that changes nothing makes no
// new version. Errors: balance.ErrInvalid, ErrUnknown, ErrImpossible, ErrChanged.
//
// The fleet is read and planned for before anything is locked, which takes seconds
// where there are a million tenants; what was found is written if declarations and
// shards are still what they were, and is found anew if not.
func (s *Service) Apply(ctx context.Context, e Edit, actor catalog.Actor) (Edited, error) {
	e, err := e.checked()
	if err != nil {
		return Edited{}, err
	}
	select { // one of a replica's at a time: together they would only undo each other's reading
	case s.edits <- struct{}{}:
	case <-ctx.Done():
		return Edited{}, fmt.Errorf("others change the policy: %w", ctx.Err())
	}
	defer func() { <-s.edits }()
	for range editTries {
		ed, err := s.try(ctx, e, actor)
		if !errors.Is(err, errOvertaken) {
			return ed, err
		}
		if err := sleep.For(ctx, rand.N(overtakenRest)); err != nil { //nolint:gosec // jitter
			return Edited{}, err
		}
	}
	return Edited{}, fmt.Errorf("policy: %w, again and again, while it was found out whether the fleet could keep it: ask again", ErrChanged)
}

const (
	// editTries bounds how often an edit is tried while other replicas' come first.
	editTries = 5
	// overtakenRest bounds the pause before the next try.
	overtakenRest = time.Second
)

// errOvertaken: shards or what is declared changed while an edit was thought about.
var errOvertaken = errors.New("overtaken")

// try is one attempt at an edit. Errors: as Apply's, errOvertaken.
func (s *Service) try(ctx context.Context, e Edit, actor catalog.Actor) (Edited, error) {
	c, err := s.consider(ctx, e)
	switch {
	case err != nil:
		return Edited{}, err
	case len(c.Changes) == 0, e.DryRun:
		return c.Edited, nil
	case c.Refusal != nil:
		return c.Edited, c.Refusal
	}
	return s.settleEdit(ctx, e, c, actor)
}

// settleEdit writes an edit that was thought through. Errors: errOvertaken.
func (s *Service) settleEdit(ctx context.Context, e Edit, c considered, actor catalog.Actor) (Edited, error) {
	err := s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// Nobody else changes what is declared while the lock is held.
		if _, err := s.store.LockPlacementPolicy(ctx, tx); err != nil {
			return err
		}
		ground, err := s.store.RebalanceGround(ctx)
		if err != nil {
			return err
		}
		if ground != c.ground {
			return errOvertaken
		}
		c.Stored, err = s.write(ctx, tx, e, c.after, c.Changes, actor)
		return err
	})
	return c.Edited, err
}

// considered is an edit, and what it was thought through on.
type considered struct {
	Edited
	after  *placement.Snapshot
	ground string
}

// consider finds out what an edit comes to, and whether the fleet can keep it, and
// changes nothing. Errors: as Apply's, but for ErrImpossible, which is the Refusal.
func (s *Service) consider(ctx context.Context, e Edit) (considered, error) {
	var c considered
	done, err := s.begin(ctx)
	if err != nil {
		return c, err
	}
	defer done()
	if c.ground, err = s.store.RebalanceGround(ctx); err != nil { // before the fleet: what changes in between is seen when it is written
		return c, err
	}
	err = s.store.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		c.Stored, err = s.store.PlacementPolicy(ctx, tx)
		return err
	})
	if err != nil {
		return c, err
	}
	if e.Expect != nil && *e.Expect != c.Stored.Version {
		return c, fmt.Errorf("policy: %w: it is at version %d, not %d", ErrChanged, c.Stored.Version, *e.Expect)
	}
	before, err := s.Snapshot(ctx)
	if err != nil {
		return c, err
	}
	if c.after, err = e.imposed(before); err != nil {
		return c, err
	}
	if c.Changes, err = changes(before, c.after, e); err != nil || len(c.Changes) == 0 {
		return c, err
	}
	if err := possible(before, c.after, s.now()); errors.Is(err, ErrImpossible) {
		c.Refusal = err
	} else if err != nil {
		return c, err
	}
	return c, nil
}

// checked refuses what no policy file could say, wherever the edit comes from.
func (e Edit) checked() (Edit, error) {
	d := policyfile.Document{Policy: balance.DefaultPolicy(), Shards: e.Shards, Tenants: e.Tenants}
	if e.Policy != nil {
		d.Policy = *e.Policy
	}
	text, err := d.Write()
	if err != nil {
		return e, err
	}
	if _, err := policyfile.Parse(text); err != nil {
		return e, err
	}
	for id, n := range e.Tenants {
		if err := printable(id, n); err != nil {
			return e, err
		}
	}
	return e, nil
}

// CheckNeeds refuses needs that no policy file could have. Errors: balance.ErrInvalid.
func CheckNeeds(id shardmap.TenantID, n balance.Needs) error {
	_, err := Edit{Tenants: map[shardmap.TenantID]balance.Needs{id: n}}.checked()
	return err
}

func printable(id shardmap.TenantID, n balance.Needs) error {
	words := []string{n.Region, n.Class, n.Apart}
	for _, labels := range []map[string]string{n.Require, n.Forbid} {
		for k, v := range labels {
			words = append(words, k, v)
		}
	}
	for _, w := range words {
		if len(w) > maxWord || strings.ContainsFunc(w, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("%w policy: tenant %s: a name is longer than %d bytes or has characters that are not printable", balance.ErrInvalid, id, maxWord)
		}
	}
	return nil
}

// maxWord bounds names of regions, classes, labels and groups, in bytes.
const maxWord = 200

// imposed is the fleet as the edit has it; at stays as it is.
func (e Edit) imposed(at *placement.Snapshot) (*placement.Snapshot, error) {
	after := *at
	after.Fleet = &balance.Fleet{Shards: at.Fleet.Shards, Tenants: at.Fleet.Tenants}
	if e.Policy != nil {
		after.Policy = *e.Policy
	}
	after.Rows = slices.Clone(at.Rows)
	unknown := maps.Clone(e.Shards)
	for i := range after.Rows {
		if c, named := e.Shards[after.Rows[i].ID]; named {
			after.Rows[i].Capacity = placement.Capacity(c)
			delete(unknown, after.Rows[i].ID)
		}
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("%w: there is no shard %s", ErrUnknown, list(maps.Keys(unknown)))
	}
	after.Fleet.Shards = make([]balance.Shard, len(after.Rows))
	for i := range after.Rows {
		after.Fleet.Shards[i] = after.Shard(i)
	}
	if len(e.Tenants) == 0 {
		return &after, nil
	}
	after.Fleet.Tenants = slices.Clone(at.Fleet.Tenants)
	missing := maps.Clone(e.Tenants)
	for i := range after.Fleet.Tenants {
		t := &after.Fleet.Tenants[i]
		if n, named := e.Tenants[t.ID]; named {
			t.Needs = placement.NeedsOf(catalog.Needs(n))
			delete(missing, t.ID)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%w: there is no tenant %s", ErrUnknown, list(maps.Keys(missing)))
	}
	return &after, nil
}

// changes are those of what the edit names.
func changes(before, after *placement.Snapshot, e Edit) ([]policyfile.Change, error) {
	document := func(at *placement.Snapshot) *policyfile.Document {
		d := &policyfile.Document{Policy: at.Policy, Shards: map[shardmap.ShardID]balance.Vector{}, Tenants: map[shardmap.TenantID]balance.Needs{}}
		for _, row := range at.Rows {
			if _, named := e.Shards[row.ID]; named && row.Capacity != (catalog.Capacity{}) {
				d.Shards[row.ID] = placement.Vector(row.Capacity)
			}
		}
		if len(e.Tenants) == 0 {
			return d
		}
		for i := range at.Fleet.Tenants {
			t := &at.Fleet.Tenants[i]
			if _, named := e.Tenants[t.ID]; named && t.Needs != nil {
				d.Tenants[t.ID] = *t.Needs
			}
		}
		return d
	}
	return policyfile.Diff(document(before), document(after))
}

// toldChanges bounds the changes that an audit record tells.
const toldChanges = 100

func (s *Service) write(ctx context.Context, tx pgx.Tx, e Edit, after *placement.Snapshot, changed []policyfile.Change, actor catalog.Actor) (stored catalog.PlacementPolicy, err error) {
	for id, c := range e.Shards {
		if err := s.store.SetCapacity(ctx, tx, id, placement.Capacity(c)); err != nil {
			return stored, err
		}
	}
	for id, n := range e.Tenants {
		if err := s.store.SetNeeds(ctx, tx, id, catalog.Needs(n), actor); err != nil {
			return stored, err
		}
	}
	text, err := (&policyfile.Document{Policy: after.Policy}).Write()
	if err != nil {
		return stored, err
	}
	if stored, err = s.store.SetPlacementPolicy(ctx, tx, string(text), actor); err != nil {
		return stored, err
	}
	// A tenant's own story has what was changed of its needs, unless it was one of many.
	var tenant shardmap.TenantID
	if only := slices.Collect(maps.Keys(e.Tenants)); len(only) == 1 {
		tenant = only[0]
	}
	return stored, s.record(ctx, tx, actor, "rebalance.policy", fmt.Sprintf("policy/%d", stored.Version), tenant,
		map[string]any{"changes": changed[:min(len(changed), toldChanges)], "changed": len(changed)})
}
