package secret

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	masterKey  = "master.key"  // of the shards' logins and the tenants' keys
	tenantsKey = "tenants.key" // of the tenants' logins, in a directory of their own
	tenantsDir = "tenants"
	tenantsOf  = "databases/" // paths of tenants' logins
)

// Dir is the embedded store: one encrypted file per secret. Any number of
// processes may read and write the same directory; a write is durable when Put
// returns, and a reader sees either the old or the new value. It is safe for
// concurrent use and needs no closing.
//
// The tenants' logins lie under a key of their own in the subdirectory
// [TenantsDir], which is all that a data-plane node gets: with it no login of
// a shard's admin can be read, and no tenant's key used.
//
// It guards against a copied or leaked file, not against someone who can read
// the master key; a store that keeps its keys elsewhere can stand in for it.
type Dir struct {
	admin   *box // nil at a node
	tenants *box
}

var (
	_ Store = (*Dir)(nil)
	_ Keys  = (*Dir)(nil)
)

// sealed is the plaintext of a login's file.
type sealed struct {
	Version int64 `json:"version"`
	Login   Login `json:"login"`
}

// TenantsDir is the part of the store in dir that data-plane nodes get.
func TenantsDir(dir string) string { return filepath.Join(dir, tenantsDir) }

// OpenDir opens the whole store in dir, as the control plane needs it.
// Directories and master keys are created on first use, also when several
// processes come first at once. It refuses a master key that others than the
// owner can read. A store of an earlier version, where the tenants' logins lay
// under the shards' master key, is carried over to the two.
func OpenDir(dir string) (*Dir, error) {
	if has(dir, tenantsKey) {
		return nil, fmt.Errorf("secret store %s: these are the tenants' logins alone: the control plane needs the directory above", dir)
	}
	admin, err := openBox(dir, masterKey, tenantsDir)
	if err != nil {
		return nil, err
	}
	tenants, err := openBox(TenantsDir(dir), tenantsKey)
	if err != nil {
		return nil, err
	}
	d := &Dir{admin: admin, tenants: tenants}
	if err := d.carryOver(); err != nil {
		return nil, fmt.Errorf("secret store %s: %w", dir, err)
	}
	return d, nil
}

// OpenTenants opens the tenants' logins in dir, the [TenantsDir] of a store,
// and nothing else: every other path is refused, and so are all keys. It
// refuses the whole store.
func OpenTenants(dir string) (*Dir, error) {
	if has(dir, masterKey) {
		return nil, fmt.Errorf("secret store %s: it has the shards' admin logins, which no data-plane node may hold: give it %s", dir, TenantsDir(dir))
	}
	tenants, err := openBox(dir, tenantsKey)
	if err != nil {
		return nil, err
	}
	return &Dir{tenants: tenants}, nil
}

func has(dir, file string) bool {
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil
}

// Get implements [Store].
func (d *Dir) Get(ctx context.Context, path string) (Login, int64, error) {
	if err := ctx.Err(); err != nil {
		return Login{}, 0, err
	}
	b, err := d.boxOf(path)
	if err != nil {
		return Login{}, 0, err
	}
	s, err := read(b, path)
	return s.Login, s.Version, err
}

// Put implements [Store]. A new version is durable when it returns.
func (d *Dir) Put(ctx context.Context, path string, l Login, version int64) (int64, error) {
	b, err := d.boxOf(path)
	if err != nil {
		return 0, err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()

	was, err := read(b, path)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	if was.Version != version {
		return 0, fmt.Errorf("secret %s: %w: at version %d, expected %d", path, ErrConflict, was.Version, version)
	}
	plain, err := json.Marshal(sealed{Version: version + 1, Login: l})
	if err != nil {
		return 0, fmt.Errorf("secret %s: %w", path, err)
	}
	return version + 1, b.seal(path, plain)
}

// Delete implements [Store].
func (d *Dir) Delete(ctx context.Context, path string) error {
	b, err := d.boxOf(path)
	if err != nil {
		return err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return b.remove(path)
}

// boxOf is where a path is kept; the pattern leaves no way out of it.
func (d *Dir) boxOf(path string) (*box, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	if strings.HasPrefix(path, tenantsOf) {
		return d.tenants, nil
	}
	if d.admin == nil {
		return nil, fmt.Errorf("secret %s: %w", path, ErrDenied)
	}
	return d.admin, nil
}

func read(b *box, path string) (sealed, error) {
	plain, err := b.open(path)
	if err != nil {
		return sealed{}, err
	}
	var s sealed
	if err := json.Unmarshal(plain, &s); err != nil {
		return sealed{}, fmt.Errorf("secret %s: unreadable content", path)
	}
	return s, nil
}
