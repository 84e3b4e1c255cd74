// Package issuer is the development fleet's token issuer: one Ed25519 key in a
// file, its public half served as a JWKS, and tokens minted from it. Production
// uses the company's OIDC provider; a data-plane node cannot tell the difference.
//
// Nothing here mints tokens of tenants: whoever may read the key file may mint. People
// sign in with names and passwords of a file beside it ([SetPerson]), and get
// tokens for the admin API; without that file nobody does.
//
// Import law: of this module, issuer imports shardmap and internal/access only.
package issuer

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

// Audience is the aud of every token.
const Audience = "freehold"

// Roles every tenant has. A viewer reads; an editor writes too; an owner owns the schema.
const (
	RoleViewer = access.RoleViewer
	RoleEditor = access.RoleEditor
	RoleOwner  = access.RoleOwner
)

const (
	defaultTTL = time.Hour
	maxTTL     = 30 * 24 * time.Hour
	keyFile    = "issuer.pem"
	urlFile    = "issuer.url"
)

// ErrNotStarted: the directory has no key or no known issuer URL yet; start the issuer once.
var ErrNotStarted = errors.New("token issuer was never started here")

// Claims says what a token shall claim.
type Claims struct {
	Tenant shardmap.TenantID
	Role   string // RoleViewer, RoleEditor, RoleOwner, or one of the tenant's own
	// Permissions are what the bearer may do beyond REST, e.g. access.PermissionSQL.
	Permissions []string
	Subject     string        // who; default "dev"
	TTL         time.Duration // default 1 h, at most 30 days
}

// Token is the claims of a minted token as they travel.
type Token struct {
	jwt.RegisteredClaims
	Tenant shardmap.TenantID `json:"tenant"`
	Role   string            `json:"role"`
	// Permissions stands in the token only if it has some.
	Permissions []string `json:"permissions,omitempty"`
}

// Signer mints tokens. It is safe for concurrent use.
type Signer struct {
	key ed25519.PrivateKey
	kid string
	iss string
}

// Open reads the key of an issuer that was started in dir, so that tokens can
// be minted without it running. It fails with [ErrNotStarted] if there is none.
func Open(dir string) (*Signer, error) {
	key, err := readKey(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, notStarted(err)
	}
	iss, err := os.ReadFile(filepath.Join(dir, urlFile))
	if err != nil {
		return nil, notStarted(err)
	}
	return newSigner(key, strings.TrimSpace(string(iss))), nil
}

func notStarted(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	return fmt.Errorf("token issuer: %w", err)
}

func newSigner(key ed25519.PrivateKey, iss string) *Signer {
	sum := sha256.Sum256(key.Public().(ed25519.PublicKey))
	return &Signer{key: key, kid: base64.RawURLEncoding.EncodeToString(sum[:12]), iss: iss}
}

// Issuer is the iss of the tokens, and the URL under which the issuer serves its keys.
func (s *Signer) Issuer() string { return s.iss }

// Mint makes a token valid from now on. It refuses a malformed tenant, an
// role that can be none, an unknown permission, and a TTL that is negative or too long.
func (s *Signer) Mint(c Claims) (string, error) {
	if _, err := shardmap.ParseTenantID(string(c.Tenant)); err != nil {
		return "", err
	}
	if err := access.CheckRole(c.Role); err != nil {
		return "", err
	}
	if err := access.CheckPermissions(c.Permissions); err != nil {
		return "", err
	}
	if c.TTL == 0 {
		c.TTL = defaultTTL
	}
	if c.TTL < 0 || c.TTL > maxTTL {
		return "", fmt.Errorf("lifetime %s: want more than 0 and at most %s", c.TTL, maxTTL)
	}
	if c.Subject == "" {
		c.Subject = "dev"
	}
	now := time.Now()
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, Token{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: s.iss, Audience: jwt.ClaimStrings{Audience}, Subject: c.Subject, ID: uuid.NewString(),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(c.TTL)),
		},
		Tenant: c.Tenant, Role: c.Role, Permissions: c.Permissions,
	})
	t.Header["kid"] = s.kid
	return t.SignedString(s.key)
}

// JWKS is the public key as a JSON Web Key Set.
func (s *Signer) JWKS() []byte {
	type jwk struct {
		Kty string `json:"kty"`
		Crv string `json:"crv"`
		X   string `json:"x"`
		Kid string `json:"kid"`
		Use string `json:"use"`
		Alg string `json:"alg"`
	}
	pub := base64.RawURLEncoding.EncodeToString(s.key.Public().(ed25519.PublicKey))
	b, err := json.Marshal(map[string][]jwk{"keys": {{Kty: "OKP", Crv: "Ed25519", X: pub, Kid: s.kid, Use: "sig", Alg: "EdDSA"}}})
	if err != nil { // strings cannot fail
		panic(err)
	}
	return b
}

// loadOrCreateKey returns the key in path, made on first use. Two processes
// that start at once end up with one key: the link of the slower one fails.
func loadOrCreateKey(path string) (ed25519.PrivateKey, error) {
	if key, err := readKey(path); !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	tmp, err := writeTemp(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return readKey(path)
}

func readKey(path string) (ed25519.PrivateKey, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s is open to other users (%s): chmod 600 it", path, fi.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, not an Ed25519 key", path, key)
	}
	return ed, nil
}

// writeTemp writes b to a new file beside path, mode 0600, and returns its name.
func writeTemp(path string, b []byte) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}
