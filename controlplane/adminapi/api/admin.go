package api

import (
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Grant is a role somewhere: over everything, or over these tenants, those that
// bear all of the labels, and these shards.
type Grant struct {
	// Role is viewer, operator or admin (or, of a data-plane node, node).
	Role string `json:"role"`
	// Verbs narrows it to these operations of the API, by their operationId; none: all that the role may do.
	Verbs   []string            `json:"verbs,omitempty"`
	All     bool                `json:"all,omitempty"`
	Tenants []shardmap.TenantID `json:"tenants,omitempty"`
	Labels  map[string]string   `json:"labels,omitempty"`
	Shards  []shardmap.ShardID  `json:"shards,omitempty"`
}

// Identity is who the bearer token says the caller is, and what he may do.
type Identity struct {
	Name string `json:"name"`
	// Role is the highest that he has anywhere.
	Role string `json:"role"`
	// Method is how he showed who he is: tokens file, access token or oidc.
	Method string `json:"method"`
	// Issuer and Groups are what an OpenID Connect token said.
	Issuer string   `json:"issuer,omitempty"`
	Groups []string `json:"groups,omitempty"`
	Grants []Grant  `json:"grants"`
	// AccessToken is the ID of a machine's token.
	AccessToken string     `json:"access_token,omitempty"`
	ExpiresAt   *time.Time `json:"expires_at,omitempty"`
}

// Labels are all labels that a tenant is to have.
type Labels struct {
	Labels map[string]string `json:"labels"`
}

// CreateAccessToken asks for a machine's token for the admin API.
type CreateAccessToken struct {
	Name string `json:"name"`
	// ExpiresAt is when it ends by itself: a year from now at most, and not
	// after the token that it is made with.
	ExpiresAt time.Time `json:"expires_at"`
	// Grants are what it may do: nothing that its maker may not.
	Grants []Grant `json:"grants"`
}

// AccessToken is a machine's token, without its text.
type AccessToken struct {
	ID     string  `json:"id"`
	Name   string  `json:"name"`
	Grants []Grant `json:"grants"`
	// State is active, expired or revoked.
	State     string    `json:"state"`
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	// Parent is the token that it was made with; when that is revoked, so is this.
	Parent       string     `json:"parent,omitempty"`
	RevokedAt    *time.Time `json:"revoked_at,omitempty"`
	RevokedBy    string     `json:"revoked_by,omitempty"`
	LastUsedAt   *time.Time `json:"last_used_at,omitempty"`
	LastUsedFrom string     `json:"last_used_from,omitempty"`
}

// NewAccessToken is a token and its text, which is shown this once and kept nowhere.
type NewAccessToken struct {
	AccessToken
	Text string `json:"token"`
}

// CreateBinding asks that people of an OpenID Connect issuer have a role somewhere.
type CreateBinding struct {
	// Issuer is the issuer's name in the control plane's configuration.
	Issuer string `json:"issuer"`
	// User or Group, one of them, is who: as the issuer's tokens name them.
	User  string `json:"user,omitempty"`
	Group string `json:"group,omitempty"`
	Grant Grant  `json:"grant"`
	// ExpiresAt ends it by itself; left out: never.
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// Binding is a role that people of an issuer have somewhere.
type Binding struct {
	ID        string     `json:"id"`
	Issuer    string     `json:"issuer"`
	User      string     `json:"user,omitempty"`
	Group     string     `json:"group,omitempty"`
	Grant     Grant      `json:"grant"`
	CreatedBy string     `json:"created_by"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// SignIn says where people sign in. It needs no token, and holds no secret.
type SignIn struct {
	Issuers []SignInIssuer `json:"issuers"`
}

// SignInIssuer is one OpenID Connect issuer whose tokens are accepted.
type SignInIssuer struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	// ClientID is the public client that tenant-ops signs in as.
	ClientID string   `json:"client_id"`
	Scopes   []string `json:"scopes"`
	// UseIDToken: the ID token is what is sent to the API; else the access token is.
	UseIDToken bool `json:"use_id_token"`
}
