package authority_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/shardmap"
)

var (
	tenants = rapid.SampledFrom([]shardmap.TenantID{"acme", "rival", "third"})
	shards  = rapid.SampledFrom([]shardmap.ShardID{"s1", "s2"})
	verbs   = rapid.SampledFrom([]string{"getTenant", "moveTenant", "deleteTenant"})
	roles   = rapid.SampledFrom([]authority.Role{authority.Viewer, authority.Operator, authority.Admin})
	labels  = rapid.MapOfN(rapid.SampledFrom([]string{"env", "team", "region"}), rapid.SampledFrom([]string{"a", "b"}), 0, 3)
)

var grants = rapid.Custom(func(t *rapid.T) authority.Grant {
	g := authority.Grant{Role: roles.Draw(t, "role"), Verbs: rapid.SliceOfN(verbs, 0, 2).Draw(t, "verbs")}
	if rapid.IntRange(0, 4).Draw(t, "all") == 0 {
		g.All = true
		return g
	}
	g.Tenants = rapid.SliceOfN(tenants, 0, 2).Draw(t, "tenants")
	g.Shards = rapid.SliceOfN(shards, 0, 2).Draw(t, "shards")
	g.Labels = labels.Draw(t, "labels")
	return g
})

// targets are tenants, which bear any labels, shards, and the fleet.
var targets = rapid.Custom(func(t *rapid.T) authority.Target {
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		return authority.Target{}
	case 1:
		return authority.Target{Shard: shards.Draw(t, "shard")}
	}
	return authority.Target{Tenant: tenants.Draw(t, "tenant"), Labels: labels.Draw(t, "borne")}
})

// Who hands out only what lies within his own can never do more through it,
// whatever the target and however tenants are labelled.
// A right hangs on bindings only where nothing else gives it.
func TestBindings(t *testing.T) {
	t.Parallel()
	ask, acme := authority.Ask{Verb: "askBreakGlass", Need: authority.Admin}, authority.Target{Tenant: "acme"}
	bound := func(id string, w authority.Where, r authority.Role) authority.Grant {
		return authority.Grant{Role: r, Where: w, Binding: id}
	}
	here, all := authority.Where{Tenants: []shardmap.TenantID{"acme"}}, authority.Where{All: true}
	who := authority.Principal{Grants: []authority.Grant{bound("one", here, authority.Admin), bound("low", all, authority.Viewer),
		bound("there", authority.Where{Tenants: []shardmap.TenantID{"beta"}}, authority.Admin), bound("two", all, authority.Admin)}}
	require.Equal(t, []string{"one", "two"}, who.Bindings(ask, acme))
	who.Grants = append(who.Grants, bound("", all, authority.Admin))
	require.Empty(t, who.Bindings(ask, acme))
}

func TestWhatLiesWithinAllowsNoMore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		have := rapid.SliceOfN(grants, 0, 3).Draw(t, "have")
		given := grants.Draw(t, "given")
		if !given.Within(have) {
			return
		}
		maker, bearer := authority.Principal{Grants: have}, authority.Principal{Grants: []authority.Grant{given}}
		ask := authority.Ask{Verb: verbs.Draw(t, "verb"), Need: roles.Draw(t, "need"), Nodes: rapid.Bool().Draw(t, "nodes")}
		target := targets.Draw(t, "target")
		if bearer.May(ask, target) && !maker.May(ask, target) {
			t.Fatalf("%+v lies within %+v and may do %+v at %+v", given, have, ask, target)
		}
	})
}

// What a list shows is what may be looked at one by one.
func TestSightIsWhatMayBeSeen(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := authority.Principal{Grants: rapid.SliceOfN(grants, 0, 3).Draw(t, "grants")}
		ask := authority.Ask{Verb: verbs.Draw(t, "verb"), Need: roles.Draw(t, "need")}
		target := targets.Draw(t, "target")
		s := p.Sees(ask)
		shown := s.All
		for _, id := range s.Tenants {
			shown = shown || target.Tenant == id
		}
		for _, id := range s.Shards {
			shown = shown || target.Shard == id
		}
		for _, sel := range s.Labels {
			all := len(sel) > 0 && target.Tenant != ""
			for k, v := range sel {
				all = all && target.Labels[k] == v
			}
			shown = shown || all
		}
		require.Equal(t, p.May(ask, target), shown)
	})
}

func TestNothingIsAllowedByDefault(t *testing.T) {
	t.Parallel()
	acme := authority.Target{Tenant: "acme", Labels: map[string]string{"env": "prod"}}
	read := authority.Ask{Verb: "getTenant", Need: authority.Viewer}
	for name, p := range map[string]authority.Principal{
		"nobody":              {},
		"a grant of nothing":  {Grants: []authority.Grant{{Role: authority.Admin}}},
		"no role":             {Grants: []authority.Grant{{Where: authority.Where{All: true}}}},
		"a role that is none": {Grants: []authority.Grant{{Role: "root", Where: authority.Where{All: true}}}},
		"a node":              {Grants: []authority.Grant{{Role: authority.Node, Where: authority.Where{All: true}}}},
		"another tenant":      {Grants: []authority.Grant{{Role: authority.Admin, Where: authority.Where{Tenants: []shardmap.TenantID{"rival"}}}}},
		"another label":       {Grants: []authority.Grant{{Role: authority.Admin, Where: authority.Where{Labels: map[string]string{"env": "dev"}}}}},
		"one label of two":    {Grants: []authority.Grant{{Role: authority.Admin, Where: authority.Where{Labels: map[string]string{"env": "prod", "team": "x"}}}}},
		"its shard":           {Grants: []authority.Grant{{Role: authority.Admin, Where: authority.Where{Shards: []shardmap.ShardID{"s1"}}}}},
		"another verb":        {Grants: []authority.Grant{{Role: authority.Admin, Verbs: []string{"listTenants"}, Where: authority.Where{All: true}}}},
	} {
		require.False(t, p.May(read, acme), name)
	}
	all := authority.Principal{Grants: []authority.Grant{{Role: authority.Admin, Where: authority.Where{All: true}}}}
	require.True(t, all.May(read, acme))
	require.False(t, all.May(authority.Ask{Verb: "getTenant"}, acme), "a verb that says no role is nobody's")
	scoped := authority.Principal{Grants: []authority.Grant{{Role: authority.Admin, Where: authority.Where{Labels: map[string]string{"env": "prod"}}}}}
	require.True(t, scoped.May(read, acme))
	require.False(t, scoped.May(read, authority.Target{}), "the fleet is nobody's part")
}

func TestGrantsThatAreNone(t *testing.T) {
	t.Parallel()
	all := authority.Where{All: true}
	for name, g := range map[string]authority.Grant{
		"no role":       {Where: all},
		"node":          {Role: authority.Node, Where: all},
		"nowhere":       {Role: authority.Viewer},
		"all and some":  {Role: authority.Viewer, Where: authority.Where{All: true, Tenants: []shardmap.TenantID{"acme"}}},
		"no tenant ID":  {Role: authority.Viewer, Where: authority.Where{Tenants: []shardmap.TenantID{"Acme"}}},
		"no shard ID":   {Role: authority.Viewer, Where: authority.Where{Shards: []shardmap.ShardID{"S1"}}},
		"no label name": {Role: authority.Viewer, Where: authority.Where{Labels: map[string]string{"E": "x"}}},
		"no value":      {Role: authority.Viewer, Where: authority.Where{Labels: map[string]string{"env": ""}}},
	} {
		require.Error(t, g.Validate(), name)
	}
	require.NoError(t, authority.Grant{Role: authority.Admin, Where: authority.Where{Labels: map[string]string{"env": "prod"}}}.Validate())
}
