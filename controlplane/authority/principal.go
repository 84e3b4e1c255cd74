package authority

import (
	"maps"
	"slices"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Method is how a caller showed who he is.
type Method string

const (
	// ByFile is a token of the tokens file.
	ByFile Method = "tokens file"
	// ByToken is a machine's access token, kept in the catalog.
	ByToken Method = "access token"
	// ByOIDC is a token of a configured OpenID Connect issuer.
	ByOIDC Method = "oidc"
)

// Principal is who calls, and what he may do.
type Principal struct {
	// Name stands in the audit log and owns idempotency keys: no two principals
	// have the same. Those of access tokens begin with "token:", people's with "oidc:".
	Name   string
	Method Method
	Grants []Grant
	// Root is who answers for it in the end: for an access token, who made the
	// first of the line that it was made by; else the name itself.
	Root string
	// Token is the access token's ID; empty if it is none.
	Token string
	// Issuer and Groups are what an OpenID Connect token said.
	Issuer string
	Groups []string
	// Expires is when the credential does; zero: never.
	Expires time.Time
}

// Role is the highest that p has anywhere; empty if he has none.
func (p Principal) Role() Role {
	var best Role
	for _, g := range p.Grants {
		if g.Role == Node && best == "" || rank[g.Role] > rank[best] {
			best = g.Role
		}
	}
	return best
}

// May decides: some grant of p's lets the verb pass at the target.
func (p Principal) May(a Ask, t Target) bool {
	return slices.ContainsFunc(p.Grants, func(g Grant) bool { return g.allows(a) && g.covers(t) })
}

// Bindings are those without any of which p might not do that: none, if
// something else lets him.
func (p Principal) Bindings(a Ask, t Target) (ids []string) {
	for _, g := range p.Grants {
		if !g.allows(a) || !g.covers(t) {
			continue
		}
		if g.Binding == "" {
			return nil
		}
		ids = append(ids, g.Binding)
	}
	return ids
}

// Anywhere tells whether some target would do.
func (p Principal) Anywhere(a Ask) bool {
	return slices.ContainsFunc(p.Grants, func(g Grant) bool { return g.allows(a) })
}

// Lasting are the grants that p still has at a time, as far as is known now; nil: for ever.
func (p Principal) Lasting(at *time.Time) (lasting []Grant) {
	for _, g := range p.Grants {
		if g.Until == nil || at != nil && !g.Until.Before(*at) {
			lasting = append(lasting, g)
		}
	}
	return lasting
}

// Sight is what a list may show: these tenants and those that bear one of the
// sets of labels, and these shards. All: everything, what belongs to no tenant too.
type Sight struct {
	All     bool
	Tenants []shardmap.TenantID
	Labels  []map[string]string
	Shards  []shardmap.ShardID
}

// Sees is what p may see with a verb that lists.
func (p Principal) Sees(a Ask) Sight {
	var s Sight
	for _, g := range p.Grants {
		if !g.allows(a) {
			continue
		}
		if g.All {
			return Sight{All: true}
		}
		s.Tenants = append(s.Tenants, g.Tenants...)
		s.Shards = append(s.Shards, g.Shards...)
		if len(g.Labels) > 0 && !slices.ContainsFunc(s.Labels, func(l map[string]string) bool { return maps.Equal(l, g.Labels) }) {
			s.Labels = append(s.Labels, g.Labels)
		}
	}
	return s
}
