package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pgserver"
)

// mover is another way to carry a database from one server to another.
type mover struct {
	name   string
	target float64 // how many times as fast we have to be; 0: none was set
	whole  bool    // it carries the whole database, not the schema public alone
	carry  func(ctx context.Context, from, to, dir string) error
}

// movers are those that this machine has.
func (f *fleet) movers() []mover {
	all := []mover{{"pg_dump | pg_restore", 1.3, false, f.dumpPipe}, {"pg_dump -j2, pg_restore -j2", 1.3, false, f.dumpDirectory}}
	if _, err := exec.LookPath("pgcopydb"); err == nil {
		all = append(all, mover{"pgcopydb clone", 1.3, true, pgcopydb})
	} else {
		say("pgcopydb is not installed: not compared with")
	}
	return all
}

// carry times one mover into a scratch database on the shard where the tenant is not, and checks that the rows arrived.
func (f *fleet) carry(ctx context.Context, m mover, c cargo, at string) (took time.Duration, err error) {
	t, err := f.admin.Tenant(ctx, string(c.tenant))
	if err != nil {
		return 0, err
	}
	to, err := f.postgres(ctx, other(at), "postgres")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, to.Close(context.WithoutCancel(ctx))) }()
	if _, err := to.Exec(ctx, "CREATE DATABASE "+scratch+" TEMPLATE template0"); err != nil {
		return 0, err
	}
	defer func() {
		_, drop := to.Exec(context.WithoutCancel(ctx), "DROP DATABASE "+scratch+" WITH (FORCE)")
		err = errors.Join(err, drop)
	}()
	inside, err := f.postgres(ctx, other(at), scratch)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, inside.Close(context.WithoutCancel(ctx))) }()
	if !m.whole {
		if _, err := inside.Exec(ctx, "DROP SCHEMA public"); err != nil { // the dump has its own
			return 0, err
		}
	}
	dir, err := os.MkdirTemp("/var/tmp", "freehold-bench-dump-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a left-over harms nobody
	source, err := f.dsn(at, t.Database)
	if err != nil {
		return 0, err
	}
	target, err := f.dsn(other(at), scratch)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := m.carry(ctx, source, target, dir); err != nil {
		return 0, err
	}
	took = time.Since(began)
	var arrived bool
	if err := inside.QueryRow(ctx, c.proof).Scan(&arrived); err != nil {
		return 0, fmt.Errorf("what arrived: %w", err)
	}
	if !arrived {
		return 0, errors.New("not all of it arrived")
	}
	return took, nil
}

// tool is a program of Postgres. Connection strings with passwords go by the environment.
func tool(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	bin, err := pgserver.BinDir()
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, filepath.Join(bin, name), args...), nil
}

func (f *fleet) dumpPipe(ctx context.Context, from, to, _ string) error {
	dump, err := tool(ctx, "pg_dump", "-Fc", "-Z0", "-n", "public")
	if err != nil {
		return err
	}
	restore, err := tool(ctx, "pg_restore", "--exit-on-error", "--no-owner", "--no-acl", "-d", scratch)
	if err != nil {
		return err
	}
	if dump.Env, err = environment(from); err != nil {
		return err
	}
	if restore.Env, err = environment(to); err != nil {
		return err
	}
	if restore.Stdin, err = dump.StdoutPipe(); err != nil {
		return err
	}
	dump.Stderr, restore.Stderr = os.Stderr, os.Stderr
	if err := dump.Start(); err != nil {
		return err
	}
	return errors.Join(restore.Run(), dump.Wait())
}

func (f *fleet) dumpDirectory(ctx context.Context, from, to, dir string) error {
	dump, err := tool(ctx, "pg_dump", "-Fd", "-Z0", "-j2", "-n", "public", "-f", filepath.Join(dir, "dump"))
	if err != nil {
		return err
	}
	restore, err := tool(ctx, "pg_restore", "--exit-on-error", "--no-owner", "--no-acl", "-j2", "-d", scratch, filepath.Join(dir, "dump"))
	if err != nil {
		return err
	}
	if dump.Env, err = environment(from); err != nil {
		return err
	}
	if restore.Env, err = environment(to); err != nil {
		return err
	}
	dump.Stderr, restore.Stderr = os.Stderr, os.Stderr
	if err := dump.Run(); err != nil {
		return err
	}
	return restore.Run()
}

func pgcopydb(ctx context.Context, from, to, dir string) error {
	cmd := exec.CommandContext(ctx, "pgcopydb", "clone", "--dir", filepath.Join(dir, "work"),
		"--table-jobs", "2", "--index-jobs", "2", "--no-owner", "--no-acl", "--skip-large-objects")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it ends its whole process group when it fails
	cmd.Env = append(os.Environ(), "PGCOPYDB_SOURCE_PGURI="+from, "PGCOPYDB_TARGET_PGURI="+to)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(out))
	}
	return nil
}

// environment has libpq connect as dsn says, without a password among the arguments.
func environment(dsn string) ([]string, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	return append(os.Environ(), "PGHOST="+cfg.Host, fmt.Sprintf("PGPORT=%d", cfg.Port), "PGUSER="+cfg.User,
		"PGPASSWORD="+cfg.Password, "PGDATABASE="+cfg.Database, "PGOPTIONS=-c statement_timeout=0"), nil
}
