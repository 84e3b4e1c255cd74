package secret

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
)

// Errors of [Keys] that a caller decides on.
var (
	// ErrDestroyed: the named key was destroyed; nothing under it can be read
	// again, by anybody, and no other key gets its name.
	ErrDestroyed = errors.New("key was destroyed")
	// ErrWrapped: what should be unwrapped was altered, or wrapped under another name.
	ErrWrapped = errors.New("not wrapped under this key")
)

// DataKeySize is the length of a data key in bytes.
const DataKeySize = 32

// Keys keeps one key per name, which it never hands out, and wraps data keys
// under it. A name is one word as in a path: a tenant's ID. All may return
// ErrUnavailable.
type Keys interface {
	// DataKey returns a new data key of [DataKeySize] bytes, plain to use and
	// forget, wrapped to keep beside what it seals. It makes the named key on
	// first use. ErrDestroyed after Destroy.
	DataKey(ctx context.Context, name string) (plain, wrapped []byte, err error)
	// Unwrap returns a data key by what DataKey or Rewrap gave. ErrDestroyed,
	// ErrNotFound when there never was such a key, ErrWrapped.
	Unwrap(ctx context.Context, name string, wrapped []byte) ([]byte, error)
	// Rotate gives the named key a new version, under which data keys are
	// wrapped from now on; older ones still open. Errors as Unwrap's.
	Rotate(ctx context.Context, name string) error
	// Rewrap wraps a data key under the newest version. Errors as Unwrap's.
	Rewrap(ctx context.Context, name string, wrapped []byte) ([]byte, error)
	// Destroy makes everything wrapped under the name unreadable for ever, and
	// the name unusable, also if there was no key yet. A second time is no error.
	Destroy(ctx context.Context, name string) error
}

// signer is the user name that a signing key is kept under.
const signer = "ed25519"

// SigningKey returns the signing key kept at path in the store. It is made
// once, whoever asks first: of several at a time, all get the same.
func SigningKey(ctx context.Context, s Store, path string) (ed25519.PrivateKey, error) {
	l, _, err := s.Get(ctx, path)
	if errors.Is(err, ErrNotFound) {
		seed := make([]byte, ed25519.SeedSize)
		_, _ = rand.Read(seed)
		l = Login{User: signer, Password: base64.StdEncoding.EncodeToString(seed), Generation: 1}
		if _, err = s.Put(ctx, path, l, 0); errors.Is(err, ErrConflict) {
			l, _, err = s.Get(ctx, path) // another was faster
		}
	}
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	seed, err := base64.StdEncoding.DecodeString(l.Password)
	if err != nil || l.User != signer || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("signing key: secret %s is none", path)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
