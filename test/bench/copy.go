package main

import (
	"context"
	_ "embed" // of large.sql and many.sql
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

var (
	//go:embed large.sql
	largeSQL string
	//go:embed many.sql
	manySQL string
)

// scratch is the database that other movers copy to.
const scratch string = "bench_scratch"

// cargo is a tenant that is moved, and that other movers copy.
type cargo struct {
	tenant shardmap.TenantID
	fill   string // makes it, as its owner
	proof  string // is true where all of it has arrived
}

// large is 200 MB at a scale of 1.
func large(tenant shardmap.TenantID, scale int) cargo {
	return cargo{tenant, strings.ReplaceAll(largeSQL, "@scale", strconv.Itoa(scale)),
		fmt.Sprintf("SELECT (SELECT count(*) = 800000 * %d FROM public.facts) AND EXISTS (SELECT FROM pg_constraint WHERE contype = 'f')", scale)}
}

// copy is the everyday tenant, against other movers.
func (b *bench) copy(ctx context.Context, f *fleet) error {
	_, err := b.against(ctx, f, large("large", 1), b.rounds, "Moving a tenant of %.0f MB, %d rounds in turns, nobody else working")
	return err
}

// tables is the tenant of many small tables, for which each round trip counts a thousand times.
func (b *bench) tables(ctx context.Context, f *fleet) error {
	c := cargo{"many", manySQL, "SELECT (SELECT count(*) >= 1000 FROM pg_tables WHERE tablename LIKE 'many\\_%') AND (SELECT count(*) = 20 FROM public.many_1000)"}
	_, err := b.against(ctx, f, c, b.rounds, "Moving a tenant of 1,000 tables and %.0f MB, %d rounds in turns")
	return err
}

// big is the tenant of gigabytes; only if it was asked for.
func (b *bench) big(ctx context.Context, f *fleet) error {
	const unit = 186 // MB that a scale of 1 makes
	scale := (b.megabytes + unit - 1) / unit
	if scale == 0 {
		say("nothing large is moved: ask by -big=2000 (MB)")
		return nil
	}
	// Both places, the other movers' copy, indexes, and the log that all of it leaves.
	if err := room(f.Dir(), int64(scale)*unit*12*1e6); err != nil {
		return err
	}
	_, err := b.against(ctx, f, large("big", scale), 1, "Moving a tenant of %.0f MB, %d round")
	return err
}

// room fails unless the disk has so many bytes free.
func room(dir string, need int64) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return err
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < need { //nolint:gosec // no disk is that large
		return fmt.Errorf("%d MB are free at %s, and it may take %d", free/1e6, dir, need/1e6)
	}
	return nil
}

// against has each mover carry the same database between the same two servers,
// in turns, and says where the tenant lives then.
func (b *bench) against(ctx context.Context, f *fleet, c cargo, rounds int, title string) (at string, err error) {
	at = "s1"
	if err := f.fill(ctx, c); err != nil {
		return at, err
	}
	movers := f.movers()
	var ours, total []float64
	ratios := map[string][]float64{}
	var megabytes float64
	for range rounds {
		receipt, err := f.move(ctx, c.tenant, other(at))
		if err != nil {
			return at, err
		}
		at = other(at)
		megabytes = float64(receipt.Bytes) / 1e6
		ours, total = append(ours, receipt.CopyMBPerS), append(total, megabytes/seconds(receipt, "copy"))
		say(fmt.Sprintf("move: %.1f MB/s; %v", receipt.CopyMBPerS, receipt.Phases))
		for _, m := range movers {
			took, err := f.carry(ctx, m, c, at)
			if err != nil {
				return at, fmt.Errorf("%s: %w", m.name, err)
			}
			say(fmt.Sprintf("%s: %.1f MB/s", m.name, megabytes/took.Seconds()))
			ratios[m.name] = append(ratios[m.name], receipt.CopyMBPerS/(megabytes/took.Seconds()))
		}
	}
	r := &b.report
	r.title(fmt.Sprintf(title, megabytes, rounds))
	r.plain("copy, with indexes and constraints", figure(median(ours), "MB/s"),
		fmt.Sprintf("%.1f s; with every row compared: %s", megabytes/median(ours), figure(median(total), "MB/s")))
	for _, m := range movers {
		rate := median(ours) / median(ratios[m.name])
		r.atLeast("  against "+m.name, "×", median(ratios[m.name]), m.target, fmt.Sprintf("%s, %.1f s", figure(rate, "MB/s"), megabytes/rate))
	}
	return at, nil
}

// seconds of one phase of a move.
func seconds(r move.Receipt, phase string) float64 {
	for _, p := range r.Phases {
		if p.Name == phase {
			return float64(p.MS) / 1000
		}
	}
	return 0
}

// fill makes the tenant and its data.
func (f *fleet) fill(ctx context.Context, c cargo) (err error) {
	if err := f.create(ctx, c.tenant, "s1"); err != nil {
		return err
	}
	t, err := f.admin.Tenant(ctx, string(c.tenant))
	if err != nil {
		return err
	}
	conn, err := f.home(ctx, c.tenant)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	_, err = conn.Exec(ctx, "SET statement_timeout = 0; SET search_path = public; SET ROLE "+shard.OwnerRole(t.Database)+";"+c.fill, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return err
	}
	for _, sql := range []string{"RESET ROLE", "VACUUM ANALYZE", "CHECKPOINT"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}
