package authority

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Where says what a grant covers: the whole fleet, or these tenants, those
// that bear all of the labels, and these shards together. The zero Where
// covers nothing.
//
// Shards cover what is done to the servers themselves. Tenants on them are not
// covered: where a tenant lives changes by itself, and who may what must not.
type Where struct {
	All     bool                `json:"all,omitempty"`
	Tenants []shardmap.TenantID `json:"tenants,omitempty"`
	Labels  map[string]string   `json:"labels,omitempty"`
	Shards  []shardmap.ShardID  `json:"shards,omitempty"`
}

// Grant is a role somewhere. Verbs, when there are some, narrow it to these
// (operation IDs of the API's document) of what the role may do.
type Grant struct {
	Role  Role     `json:"role"`
	Verbs []string `json:"verbs,omitempty"`
	Where
	// Until is when who has it loses it; nil: not by itself. A token's or a
	// binding's own end is kept beside its grants, and not in them.
	Until *time.Time `json:"-"`
	// Binding is the one that gives it; empty: none does.
	Binding string `json:"-"`
}

const (
	maxNamed = 200 // tenants, shards or verbs of one grant
	// MaxGrants bounds the grants of one token.
	MaxGrants = 50
)

// Validate refuses a grant that can be nobody's. Whether verbs exist is the caller's to know.
func (g Grant) Validate() error {
	if !g.Role.OfPeople() {
		return fmt.Errorf("role %.40q is not viewer, operator or admin", g.Role)
	}
	narrow := len(g.Tenants) + len(g.Labels) + len(g.Shards)
	switch {
	case g.All && narrow > 0:
		return errors.New("a grant of everything names no tenants, labels or shards beside")
	case !g.All && narrow == 0:
		return errors.New("a grant says where it holds: all, tenants, labels or shards")
	case len(g.Tenants) > maxNamed || len(g.Shards) > maxNamed || len(g.Verbs) > maxNamed:
		return fmt.Errorf("a grant names at most %d tenants, shards or verbs", maxNamed)
	}
	for _, id := range g.Tenants {
		if _, err := shardmap.ParseTenantID(string(id)); err != nil {
			return err
		}
	}
	for _, id := range g.Shards {
		if _, err := shardmap.ParseShardID(string(id)); err != nil {
			return err
		}
	}
	return CheckLabels(g.Labels)
}

// Target is what a request is about: a tenant, as it is labelled now, or a
// shard. The zero Target is the fleet, which only a grant of everything covers.
type Target struct {
	Tenant shardmap.TenantID
	Labels map[string]string
	Shard  shardmap.ShardID
}

// covers tells whether t lies in w.
func (w Where) covers(t Target) bool {
	switch {
	case w.All:
		return true
	case t.Tenant != "":
		return slices.Contains(w.Tenants, t.Tenant) || selects(w.Labels, t.Labels)
	case t.Shard != "":
		return slices.Contains(w.Shards, t.Shard)
	}
	return false
}

// selects tells whether labels has all that the selector asks for; one that asks for nothing selects nothing.
func selects(selector, labels map[string]string) bool {
	for name, value := range selector {
		if have, ok := labels[name]; !ok || have != value {
			return false
		}
	}
	return len(selector) > 0
}

// Ask is what a verb needs: its name, the role, and whether nodes are let in.
type Ask struct {
	Verb  string
	Need  Role
	Nodes bool
}

// allows tells whether g lets the verb pass somewhere.
func (g Grant) allows(a Ask) bool {
	return g.Role.May(a.Need, a.Nodes) && (len(g.Verbs) == 0 || slices.Contains(g.Verbs, a.Verb))
}

// Within tells whether everything that g allows is allowed by some grant of
// have: nobody hands out more than that. Each part of g has to lie within one
// grant; a selector lies within one that asks for less.
func (g Grant) Within(have []Grant) bool {
	for _, one := range g.parts() {
		if !slices.ContainsFunc(have, func(h Grant) bool { return h.holds(one) }) {
			return false
		}
	}
	return true
}

// parts takes g apart: one verb (or all), one tenant, selector or shard (or all) each.
func (g Grant) parts() (all []Grant) {
	verbs := [][]string{nil}
	if len(g.Verbs) > 0 {
		verbs = nil
		for _, v := range g.Verbs {
			verbs = append(verbs, []string{v})
		}
	}
	for _, v := range verbs {
		add := func(w Where) { all = append(all, Grant{Role: g.Role, Verbs: v, Where: w}) }
		if g.All {
			add(Where{All: true})
		}
		for _, id := range g.Tenants {
			add(Where{Tenants: []shardmap.TenantID{id}})
		}
		if len(g.Labels) > 0 {
			add(Where{Labels: g.Labels})
		}
		for _, id := range g.Shards {
			add(Where{Shards: []shardmap.ShardID{id}})
		}
	}
	return all
}

// holds tells whether one part of a grant lies within g.
func (g Grant) holds(part Grant) bool {
	if rank[g.Role] < rank[part.Role] || rank[part.Role] == 0 {
		return false
	}
	if len(g.Verbs) > 0 && (len(part.Verbs) == 0 || !slices.Contains(g.Verbs, part.Verbs[0])) {
		return false
	}
	switch {
	case g.All:
		return true
	case part.All:
		return false
	case len(part.Tenants) > 0:
		// By name only: a tenant that bears the labels today may not tomorrow.
		return slices.Contains(g.Tenants, part.Tenants[0])
	case len(part.Shards) > 0:
		return slices.Contains(g.Shards, part.Shards[0])
	}
	return selects(g.Labels, part.Labels)
}
