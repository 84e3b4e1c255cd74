// Package bearer decides who a bearer token or an API key speaks for: it
// verifies tokens against their issuers' public keys, and remembers what it
// verified. It knows nothing of HTTP answers.
//
// An issuer of the fleet speaks for the tenants that its tokens claim. A
// tenant's own issuer, and its API keys, speak for that tenant and no other.
//
// Import law: of this module, bearer imports shardmap, internal/access and internal/jwks only.
package bearer

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"
	"unsafe"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/jwks"
	"github.com/freehold-db/freehold/shardmap"
)

// Errors a caller decides on. What they wrap says more, and holds nothing of
// the credential that is secret. [access.ErrUnknown] comes through, too: it is
// not known whether the credential was revoked.
var (
	// ErrNoKeys: the issuer's keys were not fetched yet, so no token of it can be judged.
	ErrNoKeys = jwks.ErrNoKeys
	// ErrBusy: so many tokens are being verified that this one has to come again.
	ErrBusy = errors.New("too many tokens are being verified")
	// ErrExpired: the token was good and is past its time.
	ErrExpired = errors.New("token expired")
	// ErrClaims: the signature is good, but what is claimed is not for us or not well-formed.
	ErrClaims = errors.New("token's claims are refused")
	// ErrInvalid: not a token, or not signed by a key and algorithm we accept.
	ErrInvalid = errors.New("token is invalid")
	// ErrAlgorithm, an ErrInvalid: the token is signed in a way that is not accepted of its issuer, or not at all.
	ErrAlgorithm = fmt.Errorf("%w: its algorithm is not accepted", ErrInvalid)
	// ErrAmbiguous: the token is good for several tenants and the request names none of them.
	ErrAmbiguous = errors.New("token names several tenants")
	// ErrKey: the API key is not one of the tenant's any more, or never was.
	ErrKey = errors.New("API key is not valid")
	// ErrKeyExpired: the API key is past its time.
	ErrKeyExpired = errors.New("API key expired")
)

// RevokedError is a good token that the tenant has revoked: by its ID, or with
// all that were issued before some moment. Identity is whose it was.
type RevokedError struct{ Identity *Identity }

// Error names no secret.
func (*RevokedError) Error() string { return "token is revoked" }

// ClaimTypeError is a claim of a well signed token that is of no type it could have.
type ClaimTypeError struct{ Claim string }

// Error names the claim.
func (e *ClaimTypeError) Error() string { return "claim " + e.Claim + " is of another type" }

const (
	cacheParts = 16
	cacheSize  = 32_000 / cacheParts // credentials remembered per part; about 1 KB each
)

// Config says whose credentials are good.
type Config struct {
	// Issuers are the fleet's: each may speak for the tenants that its tokens claim.
	Issuers []Issuer
	// Audience and Algorithms are of issuers that have none of their own.
	Audience   string
	Algorithms []string
	// TenantClaim and RoleClaim are where tokens name tenant and role; default "tenant" and "role".
	TenantClaim, RoleClaim string
	// Leeway is how far clocks may differ; MaxToken bounds a credential in bytes.
	Leeway   time.Duration
	MaxToken int
	// Secret, when set, verifies HS256 tokens of any issuer: for development only.
	Secret []byte
	// Directory knows the tenants' own issuers, API keys, roles and revocations.
	Directory *access.Directory
	// Networks are where tenants' issuers may be although they are not public.
	Networks []netip.Prefix
	// TLS says by which roots the fleet's issuers are believed; nil: the system's.
	TLS *tls.Config
	Log *slog.Logger
}

// Issuer is one of the fleet's.
type Issuer struct {
	access.Issuer
	// TenantClaim goes before [Config.TenantClaim].
	TenantClaim string
}

// Verifier turns credentials into identities. It is safe for concurrent use.
type Verifier struct {
	cfg     Config
	issuers map[string]*trusted // the fleet's, by URL
	shared  *trusted            // of tokens signed with the secret, or nil
	guard   *guard
	gate    *gate
	tenants *lru.Cache[tenantKeys, *jwks.Ring] // keys of tenants' issuers
	cache   [cacheParts]*lru.Cache[cached, verified]
	now     func() time.Time
}

// cached is a credential by its hash; and the tenant that the request names,
// where it depends on that for whom the credential speaks.
type cached struct {
	sum   [sha256.Size]byte
	named shardmap.TenantID
}

// verified is good as long as nothing that it was found good by has changed:
// the issuer's keys, and the identity's document.
type verified struct {
	identity *Identity
	keys     *jwks.Ring // nil: none were asked
	by       *jwks.Set
}

// New checks the configuration. Nothing is fetched before [Verifier.Run].
func New(cfg Config) (*Verifier, error) {
	if cfg.Directory == nil || cfg.Log == nil || cfg.MaxToken <= 0 || cfg.Leeway < 0 {
		return nil, errors.New("bearer: configuration is incomplete")
	}
	if len(cfg.Issuers) == 0 && len(cfg.Secret) == 0 {
		return nil, errors.New("no token issuer is configured")
	}
	if cfg.TenantClaim == "" {
		cfg.TenantClaim = "tenant"
	}
	if cfg.RoleClaim == "" {
		cfg.RoleClaim = "role"
	}
	v := &Verifier{cfg: cfg, issuers: map[string]*trusted{}, guard: newGuard(cfg.Networks), gate: newGate(), now: time.Now}
	for _, i := range cfg.Issuers {
		is, err := v.newIssuer(i, jwks.New(i.URL, i.JWKSURL, cfg.TLS, cfg.Log))
		if err != nil {
			return nil, err
		}
		if v.issuers[i.URL] != nil {
			return nil, fmt.Errorf("token issuer %s is configured twice", i.URL)
		}
		v.issuers[i.URL] = is
	}
	if len(cfg.Secret) > 0 {
		var err error
		if v.shared, err = v.newShared(); err != nil {
			return nil, err
		}
	}
	for i := range v.cache {
		v.cache[i], _ = lru.New[cached, verified](cacheSize) // fails for a size below 1 only
	}
	v.tenants, _ = lru.New[tenantKeys, *jwks.Ring](maxTenantKeys)
	return v, nil
}

// Run keeps the keys of the fleet's issuers fresh until ctx ends.
func (v *Verifier) Run(ctx context.Context) {
	var g errgroup.Group
	for _, is := range v.issuers {
		g.Go(func() error { is.keys.Run(ctx); return nil })
	}
	_ = g.Wait()
	v.guard.close()
}

// Refresh fetches the keys of the fleet's issuers now; those that cannot be reached keep the known ones.
func (v *Verifier) Refresh(ctx context.Context) error {
	var g errgroup.Group
	for _, is := range v.issuers {
		g.Go(func() error { return is.keys.Refresh(ctx) })
	}
	return g.Wait()
}

// Known tells whether the keys of one of the fleet's issuers are known at
// least, so that some token can be verified.
func (v *Verifier) Known() bool {
	for _, is := range v.issuers {
		if is.keys.Known() {
			return true
		}
	}
	return v.shared != nil
}

// Verify returns the identity behind a token or an API key, or an error
// wrapping one of the package's or [access.ErrUnknown]. named is the tenant that
// the request names beside the credential, if it does: it picks one of those
// that the credential is good for, and may well differ from the result's.
//
// What was verified is remembered by its SHA-256 until it expires, or the
// issuer's keys or the tenant's document change.
func (v *Verifier) Verify(ctx context.Context, credential string, named shardmap.TenantID) (*Identity, error) {
	if len(credential) > v.cfg.MaxToken {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrInvalid, v.cfg.MaxToken)
	}
	key := cached{sum: hash(credential)}
	part := v.cache[key.sum[0]%cacheParts]
	if id := v.recall(ctx, part, key); id != nil {
		return id, nil
	}
	if named != "" {
		key.named = named
		if id := v.recall(ctx, part, key); id != nil {
			return id, nil
		}
		key.named = ""
	}
	found, chosen, err := v.verify(ctx, credential, named)
	if err != nil {
		return nil, err
	}
	if chosen {
		key.named = named
	}
	part.Add(key, found)
	return found.identity, nil
}

// hash is the SHA-256 of a text without a copy of it.
func hash(s string) [sha256.Size]byte {
	return sha256.Sum256(unsafe.Slice(unsafe.StringData(s), len(s))) // only read
}

// recall finds a credential that was verified and would be again.
func (v *Verifier) recall(ctx context.Context, part *lru.Cache[cached, verified], key cached) *Identity {
	c, ok := part.Get(key)
	if !ok {
		return nil
	}
	now := v.now()
	good := c.identity.Expires.IsZero() || now.Before(c.identity.Expires)
	if good && c.keys != nil {
		c.keys.Kick(ctx, now)
		good = c.by == c.keys.Current()
	}
	if good {
		t, err := v.cfg.Directory.Tenant(ctx, c.identity.Tenant)
		good = err == nil && t == c.identity.Document
	}
	if !good {
		part.Remove(key)
		return nil
	}
	return c.identity
}

// verify judges a credential anew. chosen tells whether named played a part.
func (v *Verifier) verify(ctx context.Context, credential string, named shardmap.TenantID) (found verified, chosen bool, err error) {
	if strings.HasPrefix(credential, access.KeyPrefix) {
		found, err = v.verifyKey(ctx, credential)
		return found, false, err
	}
	return v.verifyToken(ctx, credential, named)
}

// verifyKey judges an API key: it is good for the tenant whose it is.
func (v *Verifier) verifyKey(ctx context.Context, text string) (verified, error) {
	tenant, id, err := access.ParseKey(text)
	if err != nil {
		return verified{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	doc, err := v.cfg.Directory.Tenant(ctx, tenant)
	if err != nil {
		return verified{}, err
	}
	k := doc.Key(id)
	switch {
	case k == nil || !k.Matches(text):
		return verified{}, fmt.Errorf("%w: tenant %s has no such key %s", ErrKey, tenant, id)
	case k.Expired(v.now()):
		return verified{}, fmt.Errorf("%w: key %s of tenant %s", ErrKeyExpired, id, tenant)
	case !hasRole(doc, k.Role):
		return verified{}, fmt.Errorf("%w: tenant %s has no role %q any more", ErrKey, tenant, k.Role)
	}
	identity := ofKey(tenant, k)
	identity.Document = doc
	return verified{identity: identity}, nil
}

// hasRole tells whether a role is built in or one of the tenant's own.
func hasRole(t *access.Tenant, role string) bool {
	if access.BuiltInRole(role) {
		return true
	}
	if t != nil {
		for _, r := range t.Roles {
			if r == role {
				return true
			}
		}
	}
	return false
}

// revoked tells whether the tenant takes this token no more. A token that does
// not say when it was issued may have been at any time.
func revoked(t *access.Tenant, id *Identity) bool {
	if t == nil {
		return false
	}
	if !t.NotBefore.IsZero() && id.IssuedAt.Before(t.NotBefore) {
		return true
	}
	for i := range t.Revoked {
		if id.ID != "" && t.Revoked[i].ID == id.ID {
			return true
		}
	}
	return false
}

// CheckAlgorithms refuses an empty list and every algorithm that is not a public-key signature.
func CheckAlgorithms(algorithms []string) error {
	if len(algorithms) == 0 {
		return errors.New("no token algorithm is accepted")
	}
	return access.CheckAlgorithms(algorithms)
}
