package rebalance

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/balance"
	"github.com/freehold-db/freehold/controlplane/balance/policyfile"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/placement"
	"github.com/freehold-db/freehold/shardmap"
)

// Wanted is what is declared of placement: a policy file's contents, and its version.
type Wanted struct {
	policyfile.Document
	Stored catalog.PlacementPolicy
	// More tenants than those in the document have needs.
	More int
}

// shownNeeds bounds the tenants whose needs are shown at once.
const shownNeeds = 10_000

// Policy reads what is declared now.
func (s *Service) Policy(ctx context.Context) (Wanted, error) {
	w := Wanted{Document: policyfile.Document{Shards: map[shardmap.ShardID]balance.Vector{}, Tenants: map[shardmap.TenantID]balance.Needs{}}}
	err := s.store.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if w.Stored, err = s.store.PlacementPolicy(ctx, tx); err != nil {
			return err
		}
		if w.Policy, err = placement.Policy(w.Stored); err != nil {
			return err
		}
		capacities, err := s.store.ListCapacities(ctx, tx)
		if err != nil {
			return err
		}
		for id, c := range capacities {
			w.Shards[id] = placement.Vector(c)
		}
		needs, more, err := s.store.ListNeeds(ctx, tx, shownNeeds)
		for id, n := range needs {
			w.Tenants[id] = balance.Needs(n)
		}
		w.More = more
		return err
	})
	return w, err
}

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
func (s *Service) Apply(ctx context.Context, e Edit, actor catalog.Actor) (Edited, error) {
	e, err := e.checked()
	if err != nil {
		return Edited{}, err
	}
	done, err := s.begin(ctx)
	if err != nil {
		return Edited{}, err
	}
	defer done()
	var ed Edited
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if ed.Stored, err = s.store.LockPlacementPolicy(ctx, tx); err != nil {
			return err
		}
		if e.Expect != nil && *e.Expect != ed.Stored.Version {
			return fmt.Errorf("policy: %w: it is at version %d, not %d", ErrChanged, ed.Stored.Version, *e.Expect)
		}
		// Nobody else changes what is declared while the lock is held.
		before, err := s.Snapshot(ctx)
		if err != nil {
			return err
		}
		after, err := e.imposed(before)
		if err != nil {
			return err
		}
		if ed.Changes, err = changes(before, after, e); err != nil || len(ed.Changes) == 0 {
			return err
		}
		if err := possible(before, after, s.now()); err != nil {
			if !e.DryRun {
				return err
			}
			ed.Refusal = err
		}
		if e.DryRun {
			return nil
		}
		ed.Stored, err = s.write(ctx, tx, e, after, ed.Changes, actor)
		return err
	})
	return ed, err
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

// Needs reads what a tenant needs, and the version of what is declared.
// Errors: catalog.ErrNotFound, catalog.ErrConflict (it is deleted).
func (s *Service) Needs(ctx context.Context, id shardmap.TenantID) (n catalog.Needs, version int64, err error) {
	t, err := s.store.GetTenant(ctx, id)
	if err != nil {
		return n, 0, err
	}
	if t.Placement.State == shardmap.Deleted {
		return n, 0, fmt.Errorf("tenant %s is deleted: %w", id, catalog.ErrConflict)
	}
	if version, err = s.version(ctx); err != nil {
		return n, 0, err
	}
	// After the version: what changed in between is refused by it.
	n, err = s.store.GetNeeds(ctx, id)
	return n, version, err
}

// Capacity reads what a shard may carry, and the version of what is declared. Errors: catalog.ErrNotFound.
func (s *Service) Capacity(ctx context.Context, id shardmap.ShardID) (v balance.Vector, version int64, err error) {
	if _, err := s.store.GetShard(ctx, id); err != nil {
		return v, 0, err
	}
	err = s.store.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		stored, err := s.store.PlacementPolicy(ctx, tx)
		if err != nil {
			return err
		}
		all, err := s.store.ListCapacities(ctx, tx)
		v, version = placement.Vector(all[id]), stored.Version
		return err
	})
	return v, version, err
}

func (s *Service) version(ctx context.Context) (version int64, err error) {
	err = s.store.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		stored, err := s.store.PlacementPolicy(ctx, tx)
		version = stored.Version
		return err
	})
	return version, err
}
