package secret

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// carryOver seals the tenants' logins of a store of an earlier version, which
// lie under the shards' master key, anew under their own. What was carried
// over before, or written meanwhile, is newer and stays. It may be killed at
// any moment and is done by the next.
func (d *Dir) carryOver() error {
	old := filepath.Join(d.admin.root, filepath.Clean(tenantsOf))
	if _, err := os.Stat(old); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), openFor)
	defer cancel()
	for _, b := range []*box{d.admin, d.tenants} { // always in this order
		unlock, err := b.lock(ctx)
		if err != nil {
			return err
		}
		defer unlock()
	}
	err := filepath.WalkDir(old, func(file string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // another replica was faster
		}
		if err != nil || e.IsDir() || !strings.HasSuffix(file, suffix) {
			return err
		}
		rel, err := filepath.Rel(d.admin.root, file)
		if err != nil {
			return err
		}
		return d.carry(strings.TrimSuffix(filepath.ToSlash(rel), suffix))
	})
	if err != nil {
		return fmt.Errorf("give the tenants' logins a key of their own: %w", err)
	}
	return os.RemoveAll(old) // empty directories by now
}

func (d *Dir) carry(path string) error {
	plain, err := d.admin.open(path)
	if err != nil {
		return err
	}
	if _, err := d.tenants.open(path); errors.Is(err, ErrNotFound) {
		if err := d.tenants.seal(path, plain); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return d.admin.remove(path)
}
