package secret

import (
	"context"
	cryptorand "crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	keysOf    = "keys/" // beside the logins' files; no login's path ends so
	keySuffix = ".key"
	wrapMagic = "FHK1" // then the key's version (4 bytes), nonce, sealed data key
	wrapHead  = len(wrapMagic) + 4 + chacha20poly1305.NonceSizeX
)

// named is the plaintext of a key's file: its versions, counted from 1, or,
// for ever after Destroy, none.
type named struct {
	Versions  [][]byte `json:"versions,omitempty"`
	Destroyed bool     `json:"destroyed,omitempty"`
}

// DataKey implements [Keys].
func (d *Dir) DataKey(ctx context.Context, name string) (plain, wrapped []byte, err error) {
	k, err := d.named(ctx, name)
	if errors.Is(err, ErrNotFound) {
		k, err = d.change(ctx, name, func(k *named) {
			if len(k.Versions) == 0 {
				k.Versions = [][]byte{newKey()}
			}
		})
	}
	if err != nil {
		return nil, nil, err
	}
	plain = newKey()
	wrapped, err = k.wrap(name, plain)
	return plain, wrapped, err
}

// Unwrap implements [Keys].
func (d *Dir) Unwrap(ctx context.Context, name string, wrapped []byte) ([]byte, error) {
	k, err := d.named(ctx, name)
	if err != nil {
		return nil, err
	}
	return k.unwrap(name, wrapped)
}

// Rotate implements [Keys].
func (d *Dir) Rotate(ctx context.Context, name string) error {
	if _, err := d.named(ctx, name); err != nil {
		return err
	}
	_, err := d.change(ctx, name, func(k *named) { k.Versions = append(k.Versions, newKey()) })
	return err
}

// Rewrap implements [Keys].
func (d *Dir) Rewrap(ctx context.Context, name string, wrapped []byte) ([]byte, error) {
	k, err := d.named(ctx, name)
	if err != nil {
		return nil, err
	}
	plain, err := k.unwrap(name, wrapped)
	if err != nil {
		return nil, err
	}
	return k.wrap(name, plain)
}

// Destroy implements [Keys]. The file is written over by one that says so;
// what a file system or a backup keeps of the old one is still sealed under
// the master key.
func (d *Dir) Destroy(ctx context.Context, name string) error {
	_, err := d.change(ctx, name, func(k *named) { *k = named{Destroyed: true} })
	if errors.Is(err, ErrDestroyed) {
		return nil
	}
	return err
}

// named reads a key: ErrNotFound, ErrDestroyed, ErrUnavailable.
func (d *Dir) named(ctx context.Context, name string) (named, error) {
	if err := ctx.Err(); err != nil {
		return named{}, err
	}
	if d.admin == nil {
		return named{}, fmt.Errorf("key %s: %w", name, ErrDenied)
	}
	if err := CheckKeyName(name); err != nil {
		return named{}, err
	}
	plain, err := d.admin.open(keyPath(name))
	if err != nil {
		return named{}, err
	}
	var k named
	if err := json.Unmarshal(plain, &k); err != nil {
		return named{}, fmt.Errorf("key %s: unreadable content", name)
	}
	if k.Destroyed {
		return k, fmt.Errorf("key %s: %w", name, ErrDestroyed)
	}
	return k, nil
}

// change writes a key anew under the writers' lock; the one that is not there
// yet is empty. ErrDestroyed, ErrUnavailable.
func (d *Dir) change(ctx context.Context, name string, to func(*named)) (named, error) {
	if d.admin == nil {
		return named{}, fmt.Errorf("key %s: %w", name, ErrDenied)
	}
	unlock, err := d.admin.lock(ctx)
	if err != nil {
		return named{}, err
	}
	defer unlock()
	k, err := d.named(ctx, name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return named{}, err
	}
	to(&k)
	plain, err := json.Marshal(k)
	if err != nil {
		return named{}, fmt.Errorf("key %s: %w", name, err)
	}
	return k, d.admin.seal(keyPath(name), plain)
}

func keyPath(name string) string { return keysOf + name + keySuffix }

func newKey() []byte {
	key := make([]byte, DataKeySize)
	_, _ = cryptorand.Read(key)
	return key
}

// wrap seals a data key under the newest version, bound to name and version.
func (k named) wrap(name string, plain []byte) ([]byte, error) {
	head := binary.BigEndian.AppendUint32([]byte(wrapMagic), uint32(len(k.Versions))) //nolint:gosec // a count of rotations
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	_, _ = cryptorand.Read(nonce)
	aead, err := chacha20poly1305.NewX(k.Versions[len(k.Versions)-1])
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	bound := append([]byte(name+"\x00"), head...)
	return aead.Seal(append(head, nonce...), nonce, plain, bound), nil
}

func (k named) unwrap(name string, wrapped []byte) ([]byte, error) {
	if len(wrapped) < wrapHead || string(wrapped[:len(wrapMagic)]) != wrapMagic {
		return nil, fmt.Errorf("key %s: %w", name, ErrWrapped)
	}
	head := wrapped[:len(wrapMagic)+4]
	version := binary.BigEndian.Uint32(head[len(wrapMagic):])
	if version == 0 || uint64(version) > uint64(len(k.Versions)) {
		return nil, fmt.Errorf("key %s: %w", name, ErrWrapped)
	}
	aead, err := chacha20poly1305.NewX(k.Versions[version-1])
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	bound := append([]byte(name+"\x00"), head...)
	plain, err := aead.Open(nil, wrapped[len(head):wrapHead], wrapped[wrapHead:], bound)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, ErrWrapped)
	}
	return plain, nil
}
