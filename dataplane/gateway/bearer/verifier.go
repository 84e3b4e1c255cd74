package bearer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

// Errors a caller decides on. What they wrap says more, and holds nothing of the token's signature.
var (
	// ErrNoKeys: the issuer's keys were not fetched yet, so no token can be judged.
	ErrNoKeys = errors.New("token issuer's keys are not known yet")
	// ErrExpired: the token was good and is past its time.
	ErrExpired = errors.New("token expired")
	// ErrClaims: the signature is good, but what is claimed is not for us or not well-formed.
	ErrClaims = errors.New("token's claims are refused")
	// ErrInvalid: not a token, or not signed by a key and algorithm we accept.
	ErrInvalid = errors.New("token is invalid")
)

const (
	leeway    = 5 * time.Second // clocks differ
	cacheSize = 20_000          // verified tokens remembered; about 1 KB each
	maxToken  = 8 << 10         // bytes
)

// Verifier turns tokens into identities. It is safe for concurrent use.
type Verifier struct {
	keys   *Keys
	parser *jwt.Parser
	cache  *lru.Cache[[sha256.Size]byte, verified]
	now    func() time.Time
}

type verified struct {
	identity *Identity
	by       *keySet
}

// asymmetric lists what may be pinned. With an HMAC algorithm among them, the
// public key would be a secret that everybody has.
var asymmetric = map[string]bool{
	"EdDSA": true, "ES256": true, "ES384": true, "ES512": true,
	"RS256": true, "RS384": true, "RS512": true, "PS256": true, "PS384": true, "PS512": true,
}

// CheckAlgorithms refuses an empty list and every algorithm that is not a public-key signature.
func CheckAlgorithms(algorithms []string) error {
	if len(algorithms) == 0 {
		return errors.New("no token algorithm is accepted")
	}
	for _, a := range algorithms {
		if !asymmetric[a] {
			return fmt.Errorf("token algorithm %q is not acceptable: want a public-key signature such as EdDSA, ES256, RS256", a)
		}
	}
	return nil
}

// NewVerifier accepts tokens of keys' issuer, for that audience, signed by one of those algorithms.
func NewVerifier(keys *Keys, audience string, algorithms []string) (*Verifier, error) {
	if err := CheckAlgorithms(algorithms); err != nil {
		return nil, err
	}
	if keys.issuer == "" || audience == "" {
		return nil, errors.New("tokens need an issuer and an audience to be checked against")
	}
	cache, err := lru.New[[sha256.Size]byte, verified](cacheSize)
	if err != nil {
		return nil, err
	}
	v := &Verifier{keys: keys, cache: cache, now: time.Now}
	v.parser = jwt.NewParser(jwt.WithValidMethods(algorithms), jwt.WithIssuer(keys.issuer), jwt.WithAudience(audience),
		jwt.WithExpirationRequired(), jwt.WithLeeway(leeway), jwt.WithStrictDecoding(),
		jwt.WithTimeFunc(func() time.Time { return v.now() }))
	return v, nil
}

// Verify returns the identity of a token, or an error wrapping one of the
// package's. A token once verified is remembered by its SHA-256 until it
// expires or the issuer's keys change, whichever is first.
func (v *Verifier) Verify(ctx context.Context, token string) (*Identity, error) {
	if len(token) > maxToken {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrInvalid, maxToken)
	}
	sum := sha256.Sum256([]byte(token))
	if c, ok := v.cache.Get(sum); ok && c.by == v.keys.current.Load() && v.now().Before(c.identity.Expires) {
		return c.identity, nil
	}
	id, set, err := v.verify(ctx, token)
	if err != nil {
		v.cache.Remove(sum)
		return nil, err
	}
	v.cache.Add(sum, verified{id, set})
	return id, nil
}

func (v *Verifier) verify(ctx context.Context, token string) (*Identity, *keySet, error) {
	var set *keySet
	claims := jwt.MapClaims{} // a map, since a struct's fields would match names in any case
	_, err := v.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		kid, ok := t.Header["kid"].(string)
		if !ok || kid == "" {
			return nil, errors.New("no key ID")
		}
		if _, ok := t.Header["crit"]; ok { // extensions that must be understood, and none is
			return nil, errors.New("critical header extension")
		}
		var err error
		if set, err = v.keys.setFor(ctx, kid); err != nil {
			return nil, err
		}
		return set.find.KeyfuncCtx(ctx)(t)
	})
	switch {
	case errors.Is(err, ErrNoKeys):
		return nil, nil, ErrNoKeys
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, nil, fmt.Errorf("%w: %w", ErrExpired, err)
	case errors.Is(err, jwt.ErrTokenInvalidClaims):
		return nil, nil, fmt.Errorf("%w: %w", ErrClaims, err)
	case err != nil:
		return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	id, err := identify(token, claims)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	return id, set, nil
}

// identify reads the identity from a token whose signature and times are good.
func identify(token string, claims jwt.MapClaims) (*Identity, error) {
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		return nil, err
	}
	// Two values under one name would mean one to us and maybe another to Postgres.
	if !jsontext.Value(payload).IsValid() {
		return nil, errors.New("payload has duplicate names or invalid text")
	}
	name, ok := claims["tenant"].(string)
	if !ok {
		return nil, errors.New("no tenant")
	}
	tenant, err := shardmap.ParseTenantID(name)
	if err != nil {
		return nil, err
	}
	role, _ := claims["role"].(string)
	if !access.BuiltInRole(role) {
		return nil, fmt.Errorf("role %.32q: want %s, %s or %s", role, access.RoleViewer, access.RoleEditor, access.RoleOwner)
	}
	exp, err := claims.GetExpirationTime()
	if err != nil || exp == nil {
		return nil, errors.Join(errors.New("no expiry"), err)
	}
	subject, _ := claims["sub"].(string)
	issuer, _ := claims["iss"].(string)
	jti, _ := claims["jti"].(string)
	id := &Identity{Tenant: tenant, Role: role, Permissions: permissions(claims), Subject: subject, Issuer: issuer,
		ID: jti, Claims: string(payload), Expires: exp.Time}
	if iat, err := claims.GetIssuedAt(); err == nil && iat != nil {
		id.IssuedAt = iat.Time
	}
	return id, nil
}
