package api

import (
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Limits bound one tenant. What is left out or 0 is not bounded here: it is
// left to the plan, and then to the node's own configuration.
type Limits struct {
	// Rate is requests per second over all nodes together, Burst how many at once.
	Rate  float64 `json:"rate,omitempty"`
	Burst int     `json:"burst,omitempty"`
	// Concurrency is requests under way at one node.
	Concurrency int `json:"concurrency,omitempty"`
	// Weight is the tenant's share of a busy node against others'; 0: 1.
	Weight int `json:"weight,omitempty"`
	// MaxBody and MaxAnswer bound request and answer in bytes, MaxRows an answer's rows.
	MaxBody   int64 `json:"max_body,omitempty"`
	MaxAnswer int64 `json:"max_answer,omitempty"`
	MaxRows   int   `json:"max_rows,omitempty"`
	// StatementMS bounds one statement, in milliseconds.
	StatementMS int64 `json:"statement_ms,omitempty"`
}

// ServicePlan is a named set of limits that tenants may have.
type ServicePlan struct {
	Name   string `json:"name"`
	Limits Limits `json:"limits"`
	// Tenants counts those that name it; tenants that name none have the default plan.
	Tenants int  `json:"tenants"`
	Default bool `json:"default"`
}

// SetPlan gives a plan its limits, all of them.
type SetPlan struct {
	Limits Limits `json:"limits"`
}

// Policy is one named text of Cedar policies.
type Policy struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// FleetAccess is what holds for every tenant.
type FleetAccess struct {
	// Version grows by one with each change; If-Match takes it.
	Version     int64    `json:"version"`
	DefaultPlan string   `json:"default_plan"`
	Policies    []Policy `json:"policies"`
}

// PatchFleetAccess replaces what it names and leaves the rest.
type PatchFleetAccess struct {
	// DefaultPlan is for tenants that name none; empty: no plan.
	DefaultPlan *string   `json:"default_plan,omitempty"`
	Policies    *[]Policy `json:"policies,omitempty"`
}

// Issuer is an OpenID Connect provider whose tokens are accepted for one tenant.
type Issuer struct {
	// URL is the tokens' iss, exactly.
	URL string `json:"url"`
	// JWKSURL is where its keys are; empty: as its discovery document says.
	JWKSURL string `json:"jwks_url,omitempty"`
	// Audience must be in aud; empty: the node's.
	Audience string `json:"audience,omitempty"`
	// Algorithms are those accepted of it; empty: the node's.
	Algorithms []string `json:"algorithms,omitempty"`
	// RoleClaim is where its tokens name the role, a path with dots; empty: role.
	RoleClaim string `json:"role_claim,omitempty"`
	// DefaultRole is the role of its tokens that name none; empty: such tokens are refused.
	DefaultRole string `json:"default_role,omitempty"`
}

// TenantAccess is what a tenant has of its own, and what comes of it.
type TenantAccess struct {
	Tenant shardmap.TenantID `json:"tenant"`
	// Version grows by one with each change; If-Match takes it. 0: nothing was ever set.
	Version int64 `json:"version"`
	// Plan names one; empty: the fleet's default. Limits that are set here go before the plan's.
	Plan       string            `json:"plan"`
	Limits     Limits            `json:"limits"`
	Attributes map[string]string `json:"attributes"`
	// Schemas are exposed under /rest/v1, the first is the default; empty: the node's.
	Schemas  []string `json:"schemas"`
	Issuers  []Issuer `json:"issuers"`
	Policies []Policy `json:"policies"`
	Roles    []string `json:"roles"`
	// Keys counts API keys that are not revoked, RevokedTokens single tokens that are refused.
	Keys          int `json:"keys"`
	RevokedTokens int `json:"revoked_tokens"`
	// NotBefore refuses tokens issued earlier.
	NotBefore *time.Time `json:"not_before,omitempty"`
	// EffectivePlan and EffectiveLimits are what holds, with the fleet's default and the plan's limits in it.
	EffectivePlan   string `json:"effective_plan"`
	EffectiveLimits Limits `json:"effective_limits"`
}

// PatchTenantAccess replaces what it names, as a whole, and leaves the rest.
type PatchTenantAccess struct {
	Plan       *string            `json:"plan,omitempty"`
	Limits     *Limits            `json:"limits,omitempty"`
	Attributes *map[string]string `json:"attributes,omitempty"`
	Schemas    *[]string          `json:"schemas,omitempty"`
	Issuers    *[]Issuer          `json:"issuers,omitempty"`
	Policies   *[]Policy          `json:"policies,omitempty"`
}

// CreateKey asks for an API key of a tenant.
type CreateKey struct {
	// Role is viewer, editor, owner or a role of the tenant's own.
	Role string `json:"role"`
	// Permissions are what it may do beyond REST: sql.
	Permissions []string `json:"permissions,omitempty"`
	Description string   `json:"description,omitempty"`
	// ExpiresAt ends it by itself; left out: never.
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// Key is an API key of a tenant, without its text.
type Key struct {
	ID          string            `json:"id"`
	Tenant      shardmap.TenantID `json:"tenant"`
	Role        string            `json:"role"`
	Permissions []string          `json:"permissions"`
	Description string            `json:"description"`
	// State is active, expired or revoked.
	State     string     `json:"state"`
	CreatedBy string     `json:"created_by"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
}

// NewKey is a key and its text, which is shown this once and kept nowhere.
type NewKey struct {
	Key
	Text string `json:"key"`
}

// RevokeTokens refuses one token of a tenant, or all that were issued until now.
type RevokeTokens struct {
	// ID is the token's jti, ExpiresAt when it expires by itself.
	ID        string     `json:"id,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	// All refuses every token issued before now; ID and ExpiresAt are left out then.
	All bool `json:"all,omitempty"`
}

// CreateRole asks for a database role of a tenant's own.
type CreateRole struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// TenantRole is a role of a tenant's own, beside viewer, editor and owner.
type TenantRole struct {
	Tenant shardmap.TenantID `json:"tenant"`
	Name   string            `json:"name"`
	// DatabaseRole is its name in the tenant's database: GRANT … TO it.
	DatabaseRole string    `json:"database_role"`
	Description  string    `json:"description"`
	CreatedBy    string    `json:"created_by"`
	CreatedAt    time.Time `json:"created_at"`
}
