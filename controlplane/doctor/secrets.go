package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
)

// readable lists what in the directory has rights for others, up to some.
func readable(dir string) (found []string) {
	enough := errors.New("enough")
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return nil // what we can't read, others may not either
		}
		info, err := fileInfo(path)
		if err == nil && info.Mode().Perm()&0o077 != 0 && info.Mode()&fs.ModeSymlink == 0 {
			found = append(found, path)
		}
		if len(found) == listed {
			return enough
		}
		return nil
	})
	return found
}

// verifies tells whether the logins of the turn in use, and those of the other
// one that have a password, let the secret's passwords in; what names one that does not.
func (d *Doctor) verifies(ctx context.Context, conn *pgx.Conn, database string) (ok bool, what string, err error) {
	fenced, err := shard.Fenced(ctx, conn, database)
	if fenced || pg.Code(err) == pgerrcode.InvalidCatalogName {
		return true, "", nil // nobody gets in; it may be what a move left, and its tenant's logins rotated since
	}
	if err != nil {
		return false, "", err
	}
	document, _, err := d.secrets.Get(ctx, secret.DatabaseAuth(database))
	if errors.Is(err, secret.ErrNotFound) {
		return true, "", nil // it is being made, or dropped
	}
	if err != nil {
		return false, "", err
	}
	for _, l := range logins {
		login, err := l.From(document, database)
		if err != nil {
			return false, "", err
		}
		var verifier string
		err = conn.QueryRow(ctx, "SELECT coalesce(rolpassword, '') FROM pg_catalog.pg_authid WHERE rolname = $1", login.User).Scan(&verifier)
		if errors.Is(err, pgx.ErrNoRows) {
			continue // older databases lack some, which the keeper adds
		}
		if err != nil {
			return false, "", fmt.Errorf("verifier of %s: %w", login.User, err)
		}
		if !pg.Verifies(verifier, login.Password) {
			return false, login.User, nil
		}
	}
	return true, "", nil
}

// fileInfo does not follow links.
func fileInfo(path string) (fs.FileInfo, error) { return os.Lstat(path) }
