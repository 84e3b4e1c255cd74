package catalog

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the catalog's schema up to this binary's. Several replicas
// may call it at once; one migrates, the others wait for it.
func Migrate(ctx context.Context, dsn string) error {
	if err := MigrateTo(ctx, dsn, migrations); err != nil {
		return fmt.Errorf("migrate catalog: %w", err)
	}
	return nil
}

// MigrateTo brings a database of the control plane's own up to the goose files
// in the directory migrations of files, as [Migrate] does. Errors: as [Classify] says.
func MigrateTo(ctx context.Context, dsn string, files fs.FS) error {
	if err := migrate(ctx, dsn, files); err != nil {
		return Classify(err)
	}
	return nil
}

func migrate(ctx context.Context, dsn string, files fs.FS) error {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	cfg.ConnectTimeout = connectTimeout
	db := stdlib.OpenDB(*cfg)
	defer func() { _ = db.Close() }() // nothing is buffered in it
	if files, err = fs.Sub(files, "migrations"); err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}
