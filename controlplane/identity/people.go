package identity

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/jwks"
)

// Issuer is an OpenID Connect issuer whose people may use the admin API.
type Issuer struct {
	// Name is what bindings and the audit log call it.
	Name string `yaml:"name" json:"name"`
	// URL is what its tokens' iss must be; JWKSURL where its keys are, if not where its discovery document says.
	URL     string `yaml:"url" json:"url"`
	JWKSURL string `yaml:"jwks_url,omitempty" json:"jwks_url,omitempty"`
	// Audience is what must be in aud; empty: ClientID, which is that of ID tokens.
	Audience string `yaml:"audience,omitempty" json:"audience,omitempty"`
	// Algorithms are those accepted; none: EdDSA, ES256, RS256.
	Algorithms []string `yaml:"algorithms,omitempty" json:"algorithms,omitempty"`
	// ClientID is the public client that tenant-ops signs in as, Scopes what it
	// asks for (none: openid, profile, groups, offline_access). UseIDToken has it send the ID token.
	ClientID   string   `yaml:"client_id" json:"client_id"`
	Scopes     []string `yaml:"scopes,omitempty" json:"scopes,omitempty"`
	UseIDToken bool     `yaml:"use_id_token,omitempty" json:"use_id_token,omitempty"`
	// SubjectClaim names the person, default sub; it must be unique, never be given
	// to another, and not be the person's own to choose. GroupsClaim lists his groups, default groups.
	SubjectClaim string `yaml:"subject_claim,omitempty" json:"subject_claim,omitempty"`
	GroupsClaim  string `yaml:"groups_claim,omitempty" json:"groups_claim,omitempty"`
	// Roles are what groups may do in the whole fleet: viewer, operator or admin by group.
	Roles map[string]authority.Role `yaml:"roles,omitempty" json:"roles,omitempty"`
}

var issuerName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

var defaultAlgorithms = []string{"EdDSA", "ES256", "RS256"}

// Validate refuses an issuer that nobody can sign in at.
func (i Issuer) Validate() error {
	checked := access.Issuer{URL: i.URL, JWKSURL: i.JWKSURL, Algorithms: i.Algorithms}
	switch err := checked.Validate(); {
	case !issuerName.MatchString(i.Name):
		return fmt.Errorf("name %.40q: want a lower-case letter, then letters, digits and '-'", i.Name)
	case err != nil:
		return err
	case i.ClientID == "":
		return fmt.Errorf("issuer %s: client_id is missing", i.Name)
	}
	for _, claim := range []string{i.SubjectClaim, i.GroupsClaim} {
		if claim != "" {
			if err := access.CheckClaim(claim); err != nil {
				return fmt.Errorf("issuer %s: %w", i.Name, err)
			}
		}
	}
	for group, role := range i.Roles {
		if !subjectOK(group) || !role.OfPeople() {
			return fmt.Errorf("issuer %s: group %.40q: role %.40q is not viewer, operator or admin", i.Name, group, role)
		}
	}
	return nil
}

func (i *Issuer) defaults() {
	if i.Audience == "" {
		i.Audience = i.ClientID
	}
	if len(i.Algorithms) == 0 {
		i.Algorithms = defaultAlgorithms
	}
	if i.Scopes == nil {
		i.Scopes = []string{"openid", "profile", "groups", "offline_access"}
	}
	if i.SubjectClaim == "" {
		i.SubjectClaim = "sub"
	}
	if i.GroupsClaim == "" {
		i.GroupsClaim = "groups"
	}
}

// leeway is how far an issuer's clock may be off.
const leeway = 30 * time.Second

// maxGroups bounds the groups of one token.
const maxGroups = 1000

// People judges tokens of the configured issuers. It is safe for concurrent use.
type People struct {
	issuers map[string]*trusted // by URL
	list    []Issuer
}

type trusted struct {
	Issuer
	keys   *jwks.Ring
	parser *jwt.Parser
}

// NewPeople checks the issuers; nil for none. secure says by which roots they
// are believed; nil: the system's. Nothing is fetched before [People.Run].
func NewPeople(issuers []Issuer, secure *tls.Config, log *slog.Logger) (*People, error) {
	if len(issuers) == 0 {
		return nil, nil //nolint:nilnil // nobody can sign in
	}
	p := &People{issuers: map[string]*trusted{}}
	for _, i := range issuers {
		if err := i.Validate(); err != nil {
			return nil, err
		}
		i.defaults()
		if p.issuers[i.URL] != nil || p.has(i.Name) {
			return nil, fmt.Errorf("issuer %s is configured twice", i.Name)
		}
		p.issuers[i.URL] = &trusted{Issuer: i, keys: jwks.New(i.URL, i.JWKSURL, secure, log),
			parser: jwt.NewParser(jwt.WithValidMethods(i.Algorithms), jwt.WithAudience(i.Audience), jwt.WithIssuer(i.URL),
				jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(leeway), jwt.WithStrictDecoding())}
		p.list = append(p.list, i)
	}
	return p, nil
}

// Issuers are those configured, with their defaults.
func (p *People) Issuers() []Issuer { return slices.Clone(p.list) }

func (p *People) has(name string) bool {
	return slices.ContainsFunc(p.list, func(i Issuer) bool { return i.Name == name })
}

// Run keeps the issuers' keys fresh until ctx ends; then it returns nil.
func (p *People) Run(ctx context.Context) error {
	var g errgroup.Group
	for _, i := range p.issuers {
		g.Go(func() error { i.keys.Run(ctx); return nil })
	}
	return g.Wait()
}

// verify judges a token, and tells who bears it (with the roles of the
// configuration only) and what the issuer calls him.
func (p *People) verify(ctx context.Context, token string) (who authority.Principal, subject string, err error) {
	unknown := func(err error) (authority.Principal, string, error) {
		return authority.Principal{}, "", fmt.Errorf("%w: %w", authority.ErrUnknown, err)
	}
	// What a token says of its issuer only picks the keys that it is verified with.
	said := jwt.MapClaims{}
	if _, _, err := jwt.NewParser(jwt.WithStrictDecoding()).ParseUnverified(token, said); err != nil {
		return unknown(err)
	}
	iss, _ := said["iss"].(string)
	i := p.issuers[iss]
	if i == nil {
		return unknown(fmt.Errorf("issuer %.100q is not accepted", iss))
	}
	claims := jwt.MapClaims{}
	_, err = i.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		if _, ok := t.Header["crit"]; ok { // extensions that must be understood, and none is
			return nil, errors.New("critical header extension")
		}
		kid, ok := t.Header["kid"].(string)
		if !ok || kid == "" {
			return nil, errors.New("no key ID")
		}
		set, err := i.keys.For(ctx, kid)
		if err != nil {
			return nil, err
		}
		return set.Key(ctx, t)
	})
	switch {
	case errors.Is(err, jwks.ErrNoKeys):
		return who, "", fmt.Errorf("%w: issuer %s: %w", authority.ErrUnsettled, i.Name, err)
	case errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenInvalidAudience) && !errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return who, "", fmt.Errorf("%w: %w", authority.ErrExpired, err)
	case err != nil:
		return unknown(err)
	}
	who, subject, err = i.bearer(token, claims)
	if err != nil {
		return unknown(err)
	}
	return who, subject, nil
}

// bearer is who a well signed token speaks for.
func (i *trusted) bearer(token string, claims jwt.MapClaims) (who authority.Principal, subject string, err error) {
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil || !jsontext.Value(payload).IsValid() { // two values under one name mean one thing to us and another elsewhere
		return who, "", errors.New("payload has duplicate names or invalid text")
	}
	if azp, ok := claims["azp"].(string); ok && i.UseIDToken && azp != i.ClientID {
		return who, "", errors.New("ID token was made for another client")
	}
	subject, _ = jwks.ClaimAt(claims, i.SubjectClaim).(string)
	if !subjectOK(subject) {
		return who, "", fmt.Errorf("claim %s is no name", i.SubjectClaim)
	}
	// Whoever may type in an address without showing that it is his could be anybody.
	if verified, _ := claims["email_verified"].(bool); i.SubjectClaim == "email" && !verified {
		return who, "", errors.New("the issuer does not say that the e-mail address was verified")
	}
	groups, err := texts(jwks.ClaimAt(claims, i.GroupsClaim))
	if err != nil {
		return who, "", fmt.Errorf("claim %s: %w", i.GroupsClaim, err)
	}
	name := "oidc:" + i.Name + "/" + subject
	who = authority.Principal{Name: name, Root: name, Method: authority.ByOIDC, Issuer: i.Name, Groups: groups}
	for _, group := range groups {
		if role, ok := i.Roles[group]; ok {
			who.Grants = append(who.Grants, authority.Grant{Role: role, Where: authority.Where{All: true}})
		}
	}
	if exp, err := claims.GetExpirationTime(); err == nil && exp != nil {
		who.Expires = exp.Time
	}
	return who, subject, nil
}

// texts reads a text or a list of texts, without those that can't be names.
func texts(claim any) ([]string, error) {
	var all []any
	switch v := claim.(type) {
	case nil:
		return nil, nil
	case string:
		all = []any{v}
	case []any:
		all = v
	default:
		return nil, errors.New("is neither a text nor a list of texts")
	}
	if len(all) > maxGroups {
		return nil, fmt.Errorf("names more than %d groups", maxGroups)
	}
	var found []string
	for _, one := range all {
		s, ok := one.(string)
		if !ok {
			return nil, errors.New("is neither a text nor a list of texts")
		}
		if subjectOK(s) && !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	return found, nil
}
