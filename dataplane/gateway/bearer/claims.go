package bearer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/jwks"
	"github.com/freehold-db/freehold/shardmap"
)

// maxTenants bounds the tenants that one token may name.
const maxTenants = 100

// tenantsIn reads the tenants that a token names: a text, or an array of texts. There may be none.
func tenantsIn(claims jwt.MapClaims, path string) ([]shardmap.TenantID, error) {
	var names []any
	switch v := jwks.ClaimAt(claims, path).(type) {
	case nil:
		return nil, nil
	case string:
		names = []any{v}
	case []any:
		names = v
	default:
		return nil, fmt.Errorf("claim %s is neither a text nor a list of texts", path)
	}
	if len(names) > maxTenants {
		return nil, fmt.Errorf("claim %s names more than %d tenants", path, maxTenants)
	}
	tenants := make([]shardmap.TenantID, 0, len(names))
	for _, name := range names {
		s, ok := name.(string)
		if !ok {
			return nil, fmt.Errorf("claim %s is neither a text nor a list of texts", path)
		}
		t, err := shardmap.ParseTenantID(s)
		if err != nil {
			return nil, err
		}
		tenants = append(tenants, t)
	}
	return tenants, nil
}

// permissions reads the claim `permissions` (an array of texts), and words of
// the claim `scope` as OAuth has it (one text with spaces between).
func permissions(claims jwt.MapClaims) (all []string) {
	if list, ok := claims["permissions"].([]any); ok {
		for _, v := range list {
			if s, ok := v.(string); ok {
				all = append(all, s)
			}
		}
	}
	if scope, ok := claims["scope"].(string); ok {
		all = append(all, strings.Fields(scope)...)
	}
	return all
}

// ofKey is who bears an API key. What SQL reads as its claims is made here.
func ofKey(tenant shardmap.TenantID, k *access.Key) *Identity {
	id := &Identity{Tenant: tenant, Own: true, Role: k.Role, Permissions: k.Permissions, Subject: "key/" + k.ID, KeyID: k.ID, Expires: k.Expires}
	claims, err := json.Marshal(struct {
		Tenant      shardmap.TenantID `json:"tenant"`
		Role        string            `json:"role"`
		Subject     string            `json:"sub"`
		Permissions []string          `json:"permissions,omitempty"`
	}{tenant, k.Role, id.Subject, k.Permissions})
	if err != nil { // texts cannot fail
		panic(errors.Join(errors.New("claims of an API key"), err))
	}
	id.Claims = string(claims)
	return id
}
