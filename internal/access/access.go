// Package access is what the data plane's gateway has to know besides where a
// tenant lives: who may speak for it (issuers, API keys), what they may do
// (roles, policies, exposed schemas), and how much (plans). The catalog's
// committed rows decide; a [Tenant] or [Fleet] in a KV bucket or in a node's
// memory is a copy that may be late.
//
// Import law: of this module, access imports shardmap only.
package access

import (
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Bucket is the JetStream KV bucket of access documents: a tenant's under its
// ID, the fleet's under [FleetKey], which is no tenant's ID. The fleet's is
// always there, and comes last when an empty bucket is filled: by it nodes know
// that they have seen everything.
const (
	Bucket   = "access"
	FleetKey = "_fleet"
)

// Fleet is what holds for every tenant that has nothing of its own.
type Fleet struct {
	// Version grows with every change; of two documents the one with the greater version is the newer.
	Version int64 `json:"version"`
	// Plans by name; DefaultPlan is the plan of tenants without one. A plan that
	// is not there limits nothing beyond the node's own configuration.
	Plans       map[string]Limits `json:"plans,omitempty"`
	DefaultPlan string            `json:"default_plan,omitempty"`
	// Policies are Cedar policies for every request of every tenant.
	Policies []Policy `json:"policies,omitempty"`
}

// Tenant is what holds for one tenant. Tenants without a document are served as [Fleet] says.
type Tenant struct {
	Tenant  shardmap.TenantID `json:"tenant"`
	Version int64             `json:"version"`
	// Plan names one of Fleet.Plans; empty: the default. Limits that are set go before the plan's.
	Plan   string `json:"plan,omitempty"`
	Limits Limits `json:"limits,omitzero"`
	// Attributes are the tenant's for policies to read, e.g. tier=gold.
	Attributes map[string]string `json:"attributes,omitempty"`
	// Issuers may sign tokens for this tenant and for no other (single sign-on), beside the fleet's.
	Issuers []Issuer `json:"issuers,omitempty"`
	// Schemas are exposed under /rest/v1, the first is the default; empty: the node's configuration.
	Schemas []string `json:"schemas,omitempty"`
	// Roles are the tenant's own database roles that a token or key may name beside the built-in ones.
	Roles    []string `json:"roles,omitempty"`
	Policies []Policy `json:"policies,omitempty"`
	Keys     []Key    `json:"keys,omitempty"`
	// NotBefore refuses every token issued earlier; the zero time refuses none.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Revoked are single tokens (their jti) that are refused until they have expired anyway.
	Revoked []Revocation `json:"revoked,omitempty"`
}

// Limits bounds one tenant. Zero leaves a bound to whoever is asked next: plan, then node.
type Limits struct {
	// Rate is requests per second over all nodes together, Burst how many at once.
	Rate  float64 `json:"rate,omitempty"`
	Burst int     `json:"burst,omitempty"`
	// Concurrency is requests under way at one node.
	Concurrency int `json:"concurrency,omitempty"`
	// Weight is the tenant's share of a busy node against others'; default 1.
	Weight int `json:"weight,omitempty"`
	// MaxBody and MaxAnswer bound request and answer in bytes, MaxRows an answer's rows.
	MaxBody   int64 `json:"max_body,omitempty"`
	MaxAnswer int64 `json:"max_answer,omitempty"`
	MaxRows   int   `json:"max_rows,omitempty"`
	// StatementFor bounds one statement.
	StatementFor time.Duration `json:"statement_for,omitempty"`
}

// Issuer is an OpenID Connect provider whose tokens are accepted.
type Issuer struct {
	// URL is the tokens' iss, exactly.
	URL string `json:"url"`
	// JWKSURL is where its keys are; empty: as its discovery document says.
	JWKSURL string `json:"jwks_url,omitempty"`
	// Audience must be in aud; empty: the node's.
	Audience string `json:"audience,omitempty"`
	// Algorithms are those accepted of it; empty: the node's.
	Algorithms []string `json:"algorithms,omitempty"`
	// RoleClaim is where its tokens name the role, a path with dots, e.g. "app_metadata.role"; empty: "role".
	RoleClaim string `json:"role_claim,omitempty"`
	// DefaultRole is the role of its tokens that name none; empty: such tokens are refused.
	DefaultRole string `json:"default_role,omitempty"`
}

// Key is an API key as the platform keeps it: its text is known to its bearer only.
type Key struct {
	ID string `json:"id"`
	// Hash is the hex SHA-256 of the key's text, which is 256 random bits and needs no slow hash.
	Hash string `json:"hash"`
	Role string `json:"role"`
	// Permissions are what the key may do beyond REST, e.g. [PermissionSQL].
	Permissions []string  `json:"permissions,omitempty"`
	Expires     time.Time `json:"expires,omitzero"`
}

// Policy is one named Cedar policy text; it may hold several statements.
type Policy struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Revocation refuses one token by its jti until Expires, when the token itself has expired.
type Revocation struct {
	ID      string    `json:"id"`
	Expires time.Time `json:"expires"`
}

// The built-in roles, in rising order. Each is a role of the tenant's database:
// viewers read, editors write too, owners own the schema.
const (
	RoleViewer = "viewer"
	RoleEditor = "editor"
	RoleOwner  = "owner"
)

// PermissionSQL lets a token or key use /sql.
const PermissionSQL = "sql"

// Over returns l with what is zero taken from under.
func (l Limits) Over(under Limits) Limits {
	pick(&l.Rate, under.Rate)
	pick(&l.Burst, under.Burst)
	pick(&l.Concurrency, under.Concurrency)
	pick(&l.Weight, under.Weight)
	pick(&l.MaxBody, under.MaxBody)
	pick(&l.MaxAnswer, under.MaxAnswer)
	pick(&l.MaxRows, under.MaxRows)
	pick(&l.StatementFor, under.StatementFor)
	return l
}

func pick[T comparable](to *T, from T) {
	var zero T
	if *to == zero {
		*to = from
	}
}

// Limits of a tenant: its own over its plan's. t may be nil, for a tenant without a document.
func (f *Fleet) Limits(t *Tenant) Limits {
	var own Limits
	plan := f.DefaultPlan
	if t != nil {
		own = t.Limits
		if t.Plan != "" {
			plan = t.Plan
		}
	}
	return own.Over(f.Plans[plan])
}
