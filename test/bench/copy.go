package main

import (
	"context"
	_ "embed" // of large.sql
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/shardmap"
)

//go:embed large.sql
var largeSQL string

// large is the tenant that is moved; scratch is the database that other movers copy it to.
const (
	large   shardmap.TenantID = "large"
	scratch string            = "bench_scratch"
)

// copy has each mover carry the same database between the same two servers, in
// turns; then the tenant moves under its application's traffic.
func (b *bench) copy(ctx context.Context, f *fleet) error {
	if err := f.fillLarge(ctx); err != nil {
		return err
	}
	at := "s1"
	movers := f.movers()
	var ours, total []float64
	ratios := map[string][]float64{}
	var megabytes float64
	for range b.rounds {
		receipt, err := f.move(ctx, large, other(at))
		if err != nil {
			return err
		}
		at = other(at)
		megabytes = float64(receipt.Bytes) / 1e6
		ours = append(ours, receipt.CopyMBPerS)
		say(fmt.Sprintf("move: %.1f MB/s; %v", receipt.CopyMBPerS, receipt.Phases))
		whole := 0.0
		for _, p := range receipt.Phases {
			if p.Name == "copy" {
				whole = float64(p.MS) / 1000
			}
		}
		total = append(total, megabytes/whole)
		for _, m := range movers {
			took, err := f.carry(ctx, m, at)
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			say(fmt.Sprintf("%s: %.1f MB/s", m.name, megabytes/took.Seconds()))
			ratios[m.name] = append(ratios[m.name], receipt.CopyMBPerS/(megabytes/took.Seconds()))
		}
	}
	r := &b.report
	r.title(fmt.Sprintf("Moving a tenant of %.0f MB, %d rounds in turns, nobody else working", megabytes, b.rounds))
	r.plain("copy, with indexes and constraints", figure(median(ours), "MB/s"), "with every row compared: "+figure(median(total), "MB/s"))
	for _, m := range movers {
		rate := figure(median(ours)/median(ratios[m.name]), "MB/s")
		if m.target > 0 {
			r.atLeast("  against "+m.name, "×", median(ratios[m.name]), m.target, rate)
		} else {
			r.plain("  against "+m.name, figure(median(ratios[m.name]), "×"), rate)
		}
	}
	return b.copyUnderTraffic(ctx, f, at)
}

// copyUnderTraffic reports what the tenant's application notices of the copy.
func (b *bench) copyUnderTraffic(ctx context.Context, f *fleet, at string) error {
	app, err := f.traffic(ctx, large)
	if err != nil {
		return err
	}
	defer app.close()
	var quiet, during, rates []float64
	for range b.rounds {
		began := time.Now()
		if err := pass(ctx, calm); err != nil {
			return err
		}
		left := time.Now()
		receipt, err := f.move(ctx, large, other(at))
		if err != nil {
			return err
		}
		at = other(at)
		rates = append(rates, receipt.CopyMBPerS)
		cutover := receipt.Attempts[0].At
		q, err := app.Latency(large, began, left, 99)
		if err != nil {
			return err
		}
		d, err := app.Latency(large, left, cutover, 99)
		if err != nil {
			return err
		}
		quiet, during = append(quiet, millis(q)), append(during, millis(d))
	}
	book, err := app.audit(ctx)
	if err != nil {
		return err
	}
	r := &b.report
	r.title(fmt.Sprintf("The same under the tenant's own %.0f requests a second", float64(book.Requests)/book.Seconds))
	r.plain("copy", figure(median(rates), "MB/s"), "")
	r.atMost("tenant's 99th percentile until the cutover", "×", median(during)/median(quiet), 2, fmt.Sprintf("%.1f ms, before the move %.1f", median(during), median(quiet)))
	r.atMost("requests failed or of unknown outcome", "", float64(book.Failed+book.Unknown), 0, fmt.Sprintf("of %d", book.Requests))
	return nil
}

// fillLarge makes the tenant and its data.
func (f *fleet) fillLarge(ctx context.Context) (err error) {
	if err := f.create(ctx, large, "s1"); err != nil {
		return err
	}
	t, err := f.admin.Tenant(ctx, string(large))
	if err != nil {
		return err
	}
	conn, err := f.home(ctx, large)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	_, err = conn.Exec(ctx, "SET statement_timeout = 0; SET search_path = public; SET ROLE "+shard.OwnerRole(t.Database)+";"+largeSQL, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "RESET ROLE; CHECKPOINT", pgx.QueryExecModeSimpleProtocol)
	return err
}

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
func (f *fleet) carry(ctx context.Context, m mover, at string) (took time.Duration, err error) {
	t, err := f.admin.Tenant(ctx, string(large))
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
	var rows, keys int
	if err := inside.QueryRow(ctx, "SELECT (SELECT count(*) FROM public.facts), (SELECT count(*) FROM pg_constraint WHERE contype = 'f')").Scan(&rows, &keys); err != nil {
		return 0, fmt.Errorf("what arrived: %w", err)
	}
	if rows != 800_000 || keys == 0 {
		return 0, fmt.Errorf("%d rows and %d foreign keys arrived", rows, keys)
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
