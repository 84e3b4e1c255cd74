package access

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/freehold-db/freehold/shardmap"
)

// Bounds of a document: it travels as one NATS message, of up to 1 MiB.
const (
	MaxIssuers     = 16
	MaxKeys        = 500
	MaxRoles       = 64
	MaxSchemas     = 32
	MaxAttributes  = 64
	MaxPolicies    = 64
	MaxPolicyBytes = 128 << 10 // of all policies of a document together
	MaxRevoked     = 1000
	MaxPlans       = 200
	MaxDocument    = 1 << 20
)

var (
	namePattern      = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	rolePattern      = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`) // the database role's name is 21 bytes longer
	attributePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	claimPattern     = regexp.MustCompile(`^[A-Za-z0-9_:/-]+(\.[A-Za-z0-9_:/-]+){0,7}$`)
)

// Algorithms are the signatures that may be accepted: with an HMAC among them,
// the public key would be a secret that everybody has.
var Algorithms = []string{
	"EdDSA", "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
}

// BuiltInRole tells whether every tenant has a role of that name.
func BuiltInRole(name string) bool {
	return name == RoleViewer || name == RoleEditor || name == RoleOwner
}

// CheckRole refuses what can be neither a built-in role nor a tenant's own.
func CheckRole(name string) error {
	if !rolePattern.MatchString(name) {
		return fmt.Errorf("role %.60q: want a lower-case letter, then up to 39 of a-z, 0-9 and '_'", name)
	}
	return nil
}

// CheckCustomRole refuses what cannot be a tenant's own role.
func CheckCustomRole(name string) error {
	if BuiltInRole(name) {
		return fmt.Errorf("role %q is built in", name)
	}
	return CheckRole(name)
}

// CheckPermissions refuses permissions that do not exist.
func CheckPermissions(permissions []string) error {
	for i, p := range permissions {
		if p != PermissionSQL {
			return fmt.Errorf("permission %.40q: there is only %q", p, PermissionSQL)
		}
		if slices.Contains(permissions[:i], p) {
			return fmt.Errorf("permission %q is given twice", p)
		}
	}
	return nil
}

// CheckSchema refuses what cannot be exposed: what is no name, and schemas of Postgres and the platform.
func CheckSchema(name string) error {
	if name == "" || len(name) > 63 || !utf8.ValidString(name) || strings.TrimSpace(name) != name || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("schema %.70q is not a name of up to 63 bytes", name)
	}
	if strings.HasPrefix(name, "pg_") || name == "information_schema" {
		return fmt.Errorf("schema %q is Postgres' own", name)
	}
	if name == "freehold" || name == "migrations" {
		return fmt.Errorf("schema %q is the platform's", name)
	}
	return nil
}

// CheckName refuses what cannot name a plan or a policy.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("name %.70q: want a lower-case letter, then up to 62 of a-z, 0-9 and '-'", name)
	}
	return nil
}

// CheckClaim refuses what is no path of names with dots between, like "app_metadata.role".
func CheckClaim(path string) error {
	if len(path) > 256 || !claimPattern.MatchString(path) {
		return fmt.Errorf("claim %.70q: want names with dots between, like app_metadata.role", path)
	}
	return nil
}

// CheckAlgorithms refuses every algorithm that is not one of [Algorithms].
func CheckAlgorithms(algorithms []string) error {
	for _, a := range algorithms {
		if !slices.Contains(Algorithms, a) {
			return fmt.Errorf("token algorithm %.20q is not acceptable: want a public-key signature such as EdDSA, ES256, RS256", a)
		}
	}
	return nil
}

// Validate refuses limits that are negative or no numbers.
func (l Limits) Validate() error {
	if math.IsNaN(l.Rate) || math.IsInf(l.Rate, 0) || l.Rate < 0 || l.Burst < 0 || l.Concurrency < 0 || l.Weight < 0 ||
		l.MaxBody < 0 || l.MaxAnswer < 0 || l.MaxRows < 0 || l.StatementFor < 0 {
		return errors.New("limits must not be negative")
	}
	if l.StatementFor > 0 && l.StatementFor < time.Millisecond {
		return fmt.Errorf("statement_for %s: want at least 1ms", l.StatementFor)
	}
	return nil
}

// Validate refuses an issuer that no token could be checked against. Whether
// plain http and private addresses will do is each node's to say.
func (i *Issuer) Validate() error {
	if err := checkURL(i.URL); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	if i.JWKSURL != "" {
		if err := checkURL(i.JWKSURL); err != nil {
			return fmt.Errorf("issuer %s: jwks_url: %w", i.URL, err)
		}
	}
	if len(i.Audience) > 256 || !utf8.ValidString(i.Audience) {
		return fmt.Errorf("issuer %s: audience is too long or no text", i.URL)
	}
	if err := CheckAlgorithms(i.Algorithms); err != nil {
		return fmt.Errorf("issuer %s: %w", i.URL, err)
	}
	if i.RoleClaim != "" {
		if err := CheckClaim(i.RoleClaim); err != nil {
			return fmt.Errorf("issuer %s: role_claim: %w", i.URL, err)
		}
	}
	if i.DefaultRole != "" {
		if err := CheckRole(i.DefaultRole); err != nil {
			return fmt.Errorf("issuer %s: default_role: %w", i.URL, err)
		}
	}
	return nil
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || len(s) > 512:
		return fmt.Errorf("%.80q is no URL", s)
	case u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "":
		return fmt.Errorf("%.80q: want an http(s) URL", s)
	case u.User != nil, u.Fragment != "":
		return errors.New("a URL with a user or a fragment is not acceptable")
	}
	return nil
}

// Validate refuses a document that no control plane could have written.
func (t *Tenant) Validate() error {
	if _, err := shardmap.ParseTenantID(string(t.Tenant)); err != nil {
		return err
	}
	if err := t.check(); err != nil {
		return fmt.Errorf("access of tenant %s: %w", t.Tenant, err)
	}
	return nil
}

func (t *Tenant) check() error {
	if t.Version <= 0 {
		return errors.New("version is not positive")
	}
	if t.Plan != "" {
		if err := CheckName(t.Plan); err != nil {
			return fmt.Errorf("plan: %w", err)
		}
	}
	if len(t.Attributes) > MaxAttributes || len(t.Revoked) > MaxRevoked {
		return fmt.Errorf("more than %d attributes or %d revoked tokens", MaxAttributes, MaxRevoked)
	}
	for name, value := range t.Attributes {
		if err := CheckAttribute(name, value); err != nil {
			return err
		}
	}
	for _, r := range t.Revoked {
		if r.ID == "" || len(r.ID) > 256 {
			return errors.New("a revoked token's ID is empty or longer than 256 bytes")
		}
	}
	return errors.Join(
		t.Limits.Validate(),
		each("issuer", MaxIssuers, t.Issuers, func(i *Issuer) (string, error) { return i.URL, i.Validate() }),
		each("schema", MaxSchemas, t.Schemas, func(s *string) (string, error) { return *s, CheckSchema(*s) }),
		each("role", MaxRoles, t.Roles, func(s *string) (string, error) { return *s, CheckCustomRole(*s) }),
		each("key", MaxKeys, t.Keys, func(k *Key) (string, error) { return k.ID, k.Validate() }),
		checkPolicies(t.Policies),
	)
}

// CheckAttribute refuses an attribute that no policy could name, or with too long a value.
func CheckAttribute(name, value string) error {
	if !attributePattern.MatchString(name) {
		return fmt.Errorf("attribute %.70q: want a lower-case letter, then up to 62 of a-z, 0-9 and '_'", name)
	}
	if len(value) > 1024 || !utf8.ValidString(value) {
		return fmt.Errorf("attribute %s: want a text of up to 1024 bytes", name)
	}
	return nil
}

// Validate refuses a document that no control plane could have written.
func (f *Fleet) Validate() error {
	if err := f.check(); err != nil {
		return fmt.Errorf("access of the fleet: %w", err)
	}
	return nil
}

func (f *Fleet) check() error {
	if f.Version <= 0 {
		return errors.New("version is not positive")
	}
	if len(f.Plans) > MaxPlans {
		return fmt.Errorf("more than %d plans", MaxPlans)
	}
	for name, l := range f.Plans {
		if err := errors.Join(CheckName(name), l.Validate()); err != nil {
			return fmt.Errorf("plan %.70q: %w", name, err)
		}
	}
	if f.DefaultPlan != "" {
		if err := CheckName(f.DefaultPlan); err != nil {
			return fmt.Errorf("default plan: %w", err)
		}
	}
	return checkPolicies(f.Policies)
}

func checkPolicies(policies []Policy) error {
	bytes := 0
	for _, p := range policies {
		bytes += len(p.Text)
	}
	if bytes > MaxPolicyBytes {
		return fmt.Errorf("policies have %d bytes, more than %d", bytes, MaxPolicyBytes)
	}
	return each("policy", MaxPolicies, policies, func(p *Policy) (string, error) { return p.Name, p.Validate() })
}

// Validate refuses a policy without a name or a text. Whether the text is Cedar, package policy tells.
func (p *Policy) Validate() error {
	if err := CheckName(p.Name); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	if strings.TrimSpace(p.Text) == "" || !utf8.ValidString(p.Text) {
		return fmt.Errorf("policy %s has no text", p.Name)
	}
	return nil
}

// each checks the items of a list, of which no two may have the same name.
func each[T any](kind string, most int, list []T, check func(*T) (name string, err error)) error {
	if len(list) > most {
		return fmt.Errorf("%d times %s, more than %d", len(list), kind, most)
	}
	seen := make(map[string]bool, len(list))
	for i := range list {
		name, err := check(&list[i])
		if err != nil {
			return err
		}
		if seen[name] {
			return fmt.Errorf("%s %q is there twice", kind, name)
		}
		seen[name] = true
	}
	return nil
}
