package erase

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// format names what a certificate says, and how it is signed.
const format = "freehold-erasure/1"

// Certificate says what of a tenant was destroyed, where and when.
type Certificate struct {
	Format    string            `json:"format"`
	Fleet     string            `json:"fleet"` // the catalog's identity
	Tenant    shardmap.TenantID `json:"tenant"`
	Operation string            `json:"operation"`
	// Requested by whom and why, and when there was no way back any more.
	RequestedBy string    `json:"requested_by"`
	Reason      string    `json:"reason"`
	RequestedAt time.Time `json:"requested_at"`
	CondemnedAt time.Time `json:"condemned_at"`
	// Places are all that held the tenant's database; none is left out.
	Places []Place `json:"places"`
	// APIKeys is how many keys to the data plane were taken away.
	APIKeys int `json:"api_keys"`
	// Key is the one that everything was sealed under that left the database.
	Key KeyGone `json:"key"`
	// Copies are those that were there when the key was destroyed. No one can read them.
	Copies []CopyLeft `json:"copies"`
	// Audit is a checkpoint of the audit log, which has the records of all this.
	Audit json.RawMessage `json:"audit,omitempty"`
	// Beyond names what this does not speak of.
	Beyond   []string  `json:"beyond"`
	IssuedAt time.Time `json:"issued_at"`
}

// Place is a database of the tenant's that was dropped, with all its roles and logins.
type Place struct {
	Shard       shardmap.ShardID `json:"shard"`
	Database    string           `json:"database"`
	Was         string           `json:"was"` // its state in the inventory before
	DestroyedAt *time.Time       `json:"destroyed_at"`
}

// KeyGone is the key that was destroyed.
type KeyGone struct {
	Name        string     `json:"name"`
	DestroyedAt *time.Time `json:"destroyed_at"`
}

// CopyLeft is a sealed copy.
type CopyLeft struct {
	ID     string `json:"id"`
	SHA256 string `json:"sha256,omitempty"`
	// Where it is: "deleted" here, or "handed out" and wherever its holder put it.
	Where     string    `json:"where"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// beyond is what no certificate of ours can speak of.
var beyond = []string{
	"write-ahead log and physical backups of the shards, which are the operator's: unreadable only if their volumes are encrypted, gone when they expire",
	"tenants that were made from this one's copies, or cloned from it, before: they are tenants of their own",
	"the audit log, which keeps that the tenant existed and what was done to it, and no row of its data",
}

// signedFile is a certificate with its signature. The signature is of the
// format's name, a newline, and the certificate as compact JSON.
type signedFile struct {
	Certificate json.RawMessage `json:"certificate"`
	Signature   struct {
		Algorithm string `json:"algorithm"`
		PublicKey string `json:"public_key"`
		Value     string `json:"value"`
	} `json:"signature"`
}

const algorithm = "Ed25519"

// sign makes the file that is handed to whoever asked.
func sign(c Certificate, key ed25519.PrivateKey) (string, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // other programs don't, and the signature is of the text
	if err := e.Encode(c); err != nil {
		return "", err
	}
	var f signedFile
	f.Certificate = bytes.TrimSpace(text.Bytes())
	f.Signature.Algorithm = algorithm
	f.Signature.PublicKey = PublicKey(key.Public().(ed25519.PublicKey))
	f.Signature.Value = base64.StdEncoding.EncodeToString(ed25519.Sign(key, message(f.Certificate)))
	var out bytes.Buffer
	e = json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(f)
	return out.String(), err
}

func message(compact []byte) []byte { return append([]byte(format+"\n"), compact...) }

// PublicKey is a public key as people pass it on.
func PublicKey(k ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(k) }

// ParsePublicKey reads what [PublicKey] wrote.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("not a public key: want %d bytes in base64", ed25519.PublicKeySize)
	}
	return b, nil
}

// Errors of [Verify].
var (
	ErrNotCertificate = errors.New("not a certificate of erasure")
	ErrSignature      = errors.New("the certificate's signature does not hold")
	// ErrOtherKey: it is signed, but not by the key that it was expected to be signed by.
	ErrOtherKey = errors.New("the certificate is signed by another key")
)

// Verify checks a certificate's file against the fleet's public key. It needs
// nothing but these two. Errors: [ErrNotCertificate], [ErrSignature], [ErrOtherKey].
func Verify(file []byte, key ed25519.PublicKey) (Certificate, error) {
	var f signedFile
	var c Certificate
	d := json.NewDecoder(bytes.NewReader(file))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil || f.Signature.Algorithm != algorithm || d.More() {
		return c, ErrNotCertificate
	}
	value, err := base64.StdEncoding.DecodeString(f.Signature.Value)
	if err != nil {
		return c, ErrNotCertificate
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, f.Certificate); err != nil {
		return c, ErrNotCertificate
	}
	if !ed25519.Verify(key, message(compact.Bytes()), value) {
		if own, err := ParsePublicKey(f.Signature.PublicKey); err == nil && !own.Equal(key) && ed25519.Verify(own, message(compact.Bytes()), value) {
			return c, ErrOtherKey
		}
		return c, ErrSignature
	}
	d = json.NewDecoder(&compact)
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil || c.Format != format {
		return Certificate{}, ErrNotCertificate
	}
	return c, nil
}
