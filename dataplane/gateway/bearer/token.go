package bearer

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/jwks"
	"github.com/freehold-db/freehold/shardmap"
)

// maxTenantKeys bounds the tenants' issuers whose keys a node keeps. One that
// is forgotten under that pressure is asked again.
const maxTenantKeys = 1000

// tenantKeys is where a tenant's issuer says that its keys are; tenants that say the same share them.
type tenantKeys struct{ issuer, jwks string }

// trusted is an issuer whose tokens can be verified.
type trusted struct {
	access.Issuer
	tenantClaim string
	keys        *jwks.Ring // nil: it has a secret
	secret      []byte
	parser      *jwt.Parser
	// own, when set, is the one tenant that the issuer may speak for, with what holds for it.
	own *access.Tenant
}

func (v *Verifier) newIssuer(i Issuer, keys *jwks.Ring) (*trusted, error) {
	pick := func(s *string, other string) {
		if *s == "" {
			*s = other
		}
	}
	pick(&i.TenantClaim, v.cfg.TenantClaim)
	pick(&i.RoleClaim, v.cfg.RoleClaim)
	pick(&i.Audience, v.cfg.Audience)
	if len(i.Algorithms) == 0 {
		i.Algorithms = v.cfg.Algorithms
	}
	if i.URL == "" || i.Audience == "" {
		return nil, errors.New("tokens need an issuer and an audience to be checked against")
	}
	if err := CheckAlgorithms(i.Algorithms); err != nil {
		return nil, fmt.Errorf("token issuer %s: %w", i.URL, err)
	}
	return &trusted{Issuer: i.Issuer, tenantClaim: i.TenantClaim, keys: keys,
		parser: jwt.NewParser(append(v.rules(i.Audience, i.Algorithms), jwt.WithIssuer(i.URL))...)}, nil
}

// newShared makes the issuer of development: whoever knows the secret. It has
// a parser of its own, for HS256 and nothing else, so that no public key is ever taken for a secret.
func (v *Verifier) newShared() (*trusted, error) {
	const least = 32 // bytes (RFC 7518 §3.2)
	if len(v.cfg.Secret) < least || v.cfg.Audience == "" {
		return nil, fmt.Errorf("a secret for HS256 needs at least %d bytes, and an audience", least)
	}
	return &trusted{Issuer: access.Issuer{RoleClaim: v.cfg.RoleClaim}, tenantClaim: v.cfg.TenantClaim, secret: v.cfg.Secret,
		parser: jwt.NewParser(v.rules(v.cfg.Audience, []string{"HS256"})...)}, nil
}

func (v *Verifier) rules(audience string, algorithms []string) []jwt.ParserOption {
	return []jwt.ParserOption{jwt.WithValidMethods(algorithms), jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithLeeway(v.cfg.Leeway), jwt.WithStrictDecoding(), jwt.WithTimeFunc(func() time.Time { return v.now() })}
}

// verifyToken judges a token: who may have signed it, whether they did, and for which tenant.
func (v *Verifier) verifyToken(ctx context.Context, token string, named shardmap.TenantID) (found verified, chosen bool, err error) {
	none := verified{}
	is, chosen, err := v.issuerOf(ctx, token, named)
	if err != nil {
		return none, false, err
	}
	claims, set, err := is.check(ctx, token, v.gate)
	if err != nil {
		return none, false, err
	}
	tenants, err := tenantsIn(claims, is.tenantClaim)
	if err != nil {
		return none, false, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	id := &Identity{}
	switch {
	case is.own != nil: // whatever it claims; what it claims is held against the request later
		id.Tenant, id.Own = is.own.Tenant, true
		if len(tenants) > 0 && !slices.Contains(tenants, id.Tenant) {
			id.Claimed = tenants[0]
		}
	case len(tenants) == 0:
		return none, false, fmt.Errorf("%w: no tenant", ErrClaims)
	case len(tenants) == 1:
		id.Tenant = tenants[0]
	case named == "":
		return none, false, ErrAmbiguous
	default:
		chosen = true
		id.Tenant = tenants[max(slices.Index(tenants, named), 0)] // another one than named will be refused
	}
	doc, err := v.cfg.Directory.Tenant(ctx, id.Tenant)
	if err != nil {
		return none, false, err
	}
	id.Document = doc
	if err := id.read(token, claims, is); err != nil {
		return none, false, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	if !hasRole(doc, id.Role) {
		return none, false, fmt.Errorf("%w: role %.40q is none of tenant %s", ErrClaims, id.Role, id.Tenant)
	}
	if revoked(doc, id) {
		return none, false, &RevokedError{id}
	}
	if is.own != nil && doc != is.own {
		return none, false, fmt.Errorf("%w: the tenant's issuers have just changed", access.ErrUnknown)
	}
	return verified{identity: id, keys: is.keys, by: set}, chosen, nil
}

// check verifies signature, times, audience and issuer, and returns what the token claims.
func (is *trusted) check(ctx context.Context, token string, g *gate) (claims jwt.MapClaims, set *jwks.Set, err error) {
	claims = jwt.MapClaims{} // a map, since a struct's fields would match names in any case
	entered := false
	defer func() {
		if entered {
			g.leave()
		}
	}()
	t, err := is.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		if _, ok := t.Header["crit"]; ok { // extensions that must be understood, and none is
			return nil, errors.New("critical header extension")
		}
		if is.keys == nil {
			return is.secret, nil // the parser lets HS256 pass only
		}
		kid, ok := t.Header["kid"].(string)
		if !ok || kid == "" {
			return nil, errors.New("no key ID")
		}
		if set, err = is.keys.For(ctx, kid); err != nil {
			return nil, err
		}
		key, err := set.Key(ctx, t)
		if err != nil {
			return nil, err
		}
		err = g.enter(ctx) // the signature is checked next
		entered = err == nil
		return key, err
	})
	if err != nil {
		return nil, nil, tokenError(err, t, claims, is.Algorithms)
	}
	return claims, set, nil
}

// issuerOf finds who is to have signed the token, going by what it says: that
// is believed only to pick the keys that it is verified with. A fleet's issuer
// goes before a tenant's of the same URL. chosen tells whether named decided.
func (v *Verifier) issuerOf(ctx context.Context, token string, named shardmap.TenantID) (is *trusted, chosen bool, err error) {
	claims := jwt.MapClaims{}
	t, _, err := jwt.NewParser(jwt.WithStrictDecoding()).ParseUnverified(token, claims)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if v.shared != nil && t.Header["alg"] == "HS256" {
		return v.shared, false, nil
	}
	iss, _ := claims["iss"].(string)
	if is := v.issuers[iss]; is != nil {
		return is, false, nil
	}
	candidates, _ := tenantsIn(claims, v.cfg.TenantClaim)
	if len(candidates) > 1 {
		candidates = nil // the request has to pick
	}
	if named != "" {
		candidates = append(candidates, named)
	}
	for i, id := range candidates {
		doc, err := v.cfg.Directory.Tenant(ctx, id)
		if err != nil {
			return nil, false, err
		}
		if is, err := v.tenantIssuer(doc, iss); is != nil || err != nil {
			return is, i == len(candidates)-1 && named != "", err
		}
	}
	// A token that does not say whose it is can be only one's.
	if only, ok := v.cfg.Directory.Trusting(iss); ok {
		doc, err := v.cfg.Directory.Tenant(ctx, only)
		if err != nil {
			return nil, false, err
		}
		if is, err := v.tenantIssuer(doc, iss); is != nil || err != nil {
			return is, named != "", err
		}
	}
	return nil, false, fmt.Errorf("%w: issuer %.100q is not accepted", ErrClaims, iss)
}

// tenantIssuer is the tenant's own issuer of that URL, or nil.
func (v *Verifier) tenantIssuer(doc *access.Tenant, iss string) (*trusted, error) {
	if doc == nil || iss == "" {
		return nil, nil //nolint:nilnil // it has none
	}
	for i := range doc.Issuers {
		if doc.Issuers[i].URL != iss {
			continue
		}
		where := tenantKeys{iss, doc.Issuers[i].JWKSURL}
		keys, ok := v.tenants.Get(where)
		if !ok {
			keys = jwks.NewLazy(where.issuer, where.jwks, v.guard.client, v.cfg.Log)
			if raced, there, _ := v.tenants.PeekOrAdd(where, keys); there {
				keys = raced
			}
		}
		is, err := v.newIssuer(Issuer{Issuer: doc.Issuers[i]}, keys)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrClaims, err)
		}
		is.own = doc
		return is, nil
	}
	return nil, nil //nolint:nilnil // it has none
}

// read takes over what the token says of its bearer, once signature and times are good.
func (id *Identity) read(token string, claims jwt.MapClaims, is *trusted) error {
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		return err
	}
	// Two values under one name would mean one to us and maybe another to Postgres.
	if !jsontext.Value(payload).IsValid() {
		return errors.New("payload has duplicate names or invalid text")
	}
	switch role := jwks.ClaimAt(claims, is.RoleClaim).(type) {
	case string:
		id.Role = role
	case nil:
		id.Role = is.DefaultRole
	default:
		return fmt.Errorf("claim %s is no text", is.RoleClaim)
	}
	if id.Role == "" {
		return errors.New("no role")
	}
	exp, err := claims.GetExpirationTime()
	if err != nil || exp == nil {
		return errors.Join(errors.New("no expiry"), err)
	}
	id.Expires = exp.Time
	if iat, err := claims.GetIssuedAt(); err == nil && iat != nil {
		id.IssuedAt = iat.Time
	}
	id.Subject, _ = claims["sub"].(string)
	id.Issuer, _ = claims["iss"].(string)
	id.ID, _ = claims["jti"].(string)
	id.Permissions = permissions(claims)
	id.Claims = string(payload)
	return nil
}
