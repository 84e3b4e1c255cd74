package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// KeyPrefix begins every API key, so that scanners for leaked secrets find
// them: `fh_<tenant>_<12 hex digits: ID>_<52 characters: 256 random bits in lower-case base32>`.
const KeyPrefix = "fh_"

const (
	keyIDBytes     = 6
	keySecretBytes = 32
	keySecretText  = 52
)

// ErrNoKey: the text is not that of an API key.
var ErrNoKey = errors.New("not an API key")

var keyText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewKey makes a key of the tenant. text is the only copy of what its bearer
// sends; the Key is what the platform keeps. A zero expires is never. It
// refuses what [Key.Validate] refuses.
func NewKey(tenant shardmap.TenantID, role string, permissions []string, expires time.Time) (text string, k Key, err error) {
	if _, err := shardmap.ParseTenantID(string(tenant)); err != nil {
		return "", Key{}, err
	}
	var random [keyIDBytes + keySecretBytes]byte
	_, _ = rand.Read(random[:]) // never fails: the runtime ends the process first
	k = Key{ID: hex.EncodeToString(random[:keyIDBytes]), Role: role, Permissions: slices.Clone(permissions), Expires: expires.UTC()}
	text = KeyPrefix + string(tenant) + "_" + k.ID + "_" + keyText.EncodeToString(random[keyIDBytes:])
	k.Hash = hashKey(text)
	if err := k.Validate(); err != nil {
		return "", Key{}, err
	}
	return text, k, nil
}

// ParseKey reads whose key a text says it is. That it is one of the tenant's
// keys only [Key.Matches] tells. Its error is [ErrNoKey] and holds nothing of the text.
func ParseKey(text string) (tenant shardmap.TenantID, id string, err error) {
	rest, ok := strings.CutPrefix(text, KeyPrefix)
	name, rest, ok1 := strings.Cut(rest, "_")
	id, secret, ok2 := strings.Cut(rest, "_")
	if !ok || !ok1 || !ok2 || !validKeyID(id) || len(secret) != keySecretText {
		return "", "", ErrNoKey
	}
	if tenant, err = shardmap.ParseTenantID(name); err != nil {
		return "", "", ErrNoKey
	}
	// One text per key: the last character has bits that decoding would drop.
	if b, err := keyText.DecodeString(secret); err != nil || keyText.EncodeToString(b) != secret {
		return "", "", ErrNoKey
	}
	return tenant, id, nil
}

// Matches tells, in a time that depends on the length of text alone, whether it is this key's.
func (k *Key) Matches(text string) bool {
	want, err := hex.DecodeString(k.Hash)
	if err != nil || len(want) != sha256.Size {
		return false
	}
	got := sha256.Sum256([]byte(text))
	return subtle.ConstantTimeCompare(got[:], want) == 1
}

// Expired tells whether the key is past its time at now.
func (k *Key) Expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

// Key finds the tenant's key of that ID, or nil.
func (t *Tenant) Key(id string) *Key {
	if t == nil {
		return nil
	}
	for i := range t.Keys {
		if t.Keys[i].ID == id {
			return &t.Keys[i]
		}
	}
	return nil
}

// Validate refuses a key that [NewKey] could not have made.
func (k *Key) Validate() error {
	if !validKeyID(k.ID) {
		return fmt.Errorf("key ID %.40q: want %d hex digits", k.ID, 2*keyIDBytes)
	}
	if b, err := hex.DecodeString(k.Hash); err != nil || len(b) != sha256.Size || k.Hash != strings.ToLower(k.Hash) {
		return fmt.Errorf("key %s: hash is not a SHA-256 in hex digits", k.ID)
	}
	if err := CheckRole(k.Role); err != nil {
		return fmt.Errorf("key %s: %w", k.ID, err)
	}
	if err := CheckPermissions(k.Permissions); err != nil {
		return fmt.Errorf("key %s: %w", k.ID, err)
	}
	return nil
}

func hashKey(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func validKeyID(id string) bool {
	b, err := hex.DecodeString(id)
	return err == nil && len(b) == keyIDBytes && id == strings.ToLower(id)
}
