package bearer

import (
	"slices"
	"time"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

// Identity is what a verified token or API key says. It is shared and never changed.
type Identity struct {
	Tenant shardmap.TenantID
	// Own tells that the credential is the tenant's by where it came from (its
	// own issuer, its API key) and not by what it claims; Claimed is another
	// tenant that it claims in vain.
	Own     bool
	Claimed shardmap.TenantID
	// Role is one of access.RoleViewer, RoleEditor, RoleOwner, or one of the tenant's own.
	Role string
	// Permissions are what the bearer may do beyond REST; see [Identity.May].
	Permissions []string
	// Subject is the token's sub; of an API key `key/<id>`.
	Subject string
	// Issuer is the token's iss; empty of an API key.
	Issuer string
	// ID is the token's jti, KeyID the API key's ID; one of them is empty, or both.
	ID    string
	KeyID string
	// Claims is the token's payload as it was signed: a JSON object without
	// duplicate names. Of an API key it says tenant, role and sub.
	Claims string
	// Document is what holds for the tenant besides the fleet's; nil: nothing.
	Document *access.Tenant
	// IssuedAt is zero when the token does not say; Expires is zero of a key without an end.
	IssuedAt time.Time
	Expires  time.Time
}

// May tells whether the bearer has a permission beyond REST, e.g. access.PermissionSQL.
func (id *Identity) May(permission string) bool { return slices.Contains(id.Permissions, permission) }
