package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/shardmap"
)

// big is the tenant that moves.
const big = "acme"

// member of the cast: a tenant, its share of the big one's data, and its requests per second.
type member struct {
	id   shardmap.TenantID
	size float64
	rate float64
}

var cast = []member{
	{big, 1, 100},
	{"globex", .08, 15}, {"initech", .05, 15}, {"umbrella", .03, 15}, {"hooli", .02, 15}, {"stark", .01, 15},
	{"wayne", .04, 0}, {"tyrell", .02, 0}, {"wonka", .01, 0}, {"cyberdyne", .005, 0}, {"soylent", .002, 0}, {"gringotts", 0, 0},
}

const (
	fromShard, toShard = "s1", "s2"
	accessFor          = 10 * time.Minute
	bytesPerUnit       = 1200 // of a filled database for each unit of fillSQL; measured
)

// settle creates the tenants.
func (p *play) settle(ctx context.Context) error {
	done := p.show.begin(fmt.Sprintf("Creating %d tenants, each with a database and logins of its own", len(cast)))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, t := range cast {
		g.Go(func() error {
			in := api.CreateTenant{ID: string(t.id)}
			if t.id == big {
				in.Shard = fromShard
			}
			op, err := p.admin.CreateTenant(ctx, in, client.Change{Reason: "demo"})
			if err != nil {
				return fmt.Errorf("create tenant %s: %w", t.id, err)
			}
			_, err = p.await(ctx, op.ID, func(api.Operation) {})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	p.result.Tenants = len(cast)
	done("")
	return nil
}

// await waits for an operation to succeed.
func (p *play) await(ctx context.Context, id string, see func(api.Operation)) (api.Operation, error) {
	op, err := p.admin.Watch(ctx, id, func(op api.Operation) error { see(op); return nil })
	if err != nil {
		return op, err
	}
	if op.State != "done" {
		return op, fmt.Errorf("%s of %s: %s: %s", op.Kind, op.Tenant, op.State, op.Error)
	}
	return op, nil
}

// fill loads data as each tenant's owner would, through a temporary login.
func (p *play) fill(ctx context.Context) error {
	done := p.show.begin("Loading data: projects, tasks, invoices, bookings")
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	sizes := make([]int64, len(cast))
	for i, t := range cast {
		g.Go(func() (err error) {
			sizes[i], err = p.fillOne(ctx, t.id, int(t.size*float64(p.opts.BigBytes)/bytesPerUnit))
			if err != nil {
				return fmt.Errorf("load data of tenant %s: %w", t.id, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, n := range sizes {
		p.result.Bytes += n
		if cast[i].id == big {
			p.result.BigBytes = n
		}
	}
	done(fmt.Sprintf("%s, of them %s has %s", megabytes(p.result.Bytes), big, megabytes(p.result.BigBytes)))
	return nil
}

func (p *play) fillOne(ctx context.Context, tenant shardmap.TenantID, units int) (bytes int64, err error) {
	a, err := p.admin.GrantAccess(ctx, string(tenant), api.GrantAccess{As: "owner", TTLSeconds: int(accessFor.Seconds())}, "demo: load data")
	if err != nil {
		return 0, err
	}
	cfg, err := p.server(ctx, tenant)
	if err != nil {
		return 0, err
	}
	cfg.User, cfg.Password = a.User, a.Password
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return 0, fmt.Errorf("connect to database %s as %s: %w", a.Database, a.User, pg.ConnectCause(err))
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, conn.Close(ctx))
	}()
	for _, s := range fillSQL {
		if _, err := conn.Exec(ctx, s.sql, s.args(string(tenant), units)...); err != nil {
			return 0, err
		}
	}
	root, err := p.superuser(ctx, tenant)
	if err != nil {
		return 0, err
	}
	err = root.QueryRow(ctx, "SELECT pg_database_size(current_database())").Scan(&bytes)
	return bytes, errors.Join(err, root.Close(ctx))
}

func size(_ string, units int) []any        { return []any{units} }
func tagged(tenant string, units int) []any { return []any{tenant, units} }
func nothing(string, int) []any             { return nil }

// fillSQL makes $units rows of each large table. Whatever can carry the
// tenant's tag does, so that a reader of another tenant's row notices.
var fillSQL = []struct {
	sql  string
	args func(tenant string, units int) []any
}{
	{`INSERT INTO members (email, name, hourly_fee) SELECT format('m%s@%s.example', i, $1::text), format('Member %s of %s', i, $1::text), 50 + i FROM generate_series(1, 20 + 0 * $2::int) i`, tagged},
	{`INSERT INTO customers (name, address) SELECT format('Customer %s of %s', i, $1::text), jsonb_build_object('city', 'Springfield', 'no', i) FROM generate_series(1, 10 + $2::int / 500) i`, tagged},
	{`INSERT INTO projects (customer_id, lead_id, name, tags, notes)
	  SELECT 1 + i % (10 + $1::int / 500), 1 + i % 20, 'Project ' || i, ARRAY['t' || i % 7, 't' || i % 11], repeat('n', i % 200) FROM generate_series(1, 20 + $1::int / 100) i`, size},
	{`INSERT INTO tasks (project_id, assignee_id, title, status, hours)
	  SELECT 1 + i % (20 + $1::int / 100), 1 + i % 20, 'Task ' || i || ' ' || repeat(md5(i::text), 8), (ARRAY['todo','doing','review','done']::task_status[])[1 + i % 4], i % 40
	  FROM generate_series(1, 50 + $1::int) i`, size},
	{`INSERT INTO invoices (project_id) SELECT 1 + i % 20 FROM generate_series(1, 12 + $1::int / 200) i`, size},
	{`INSERT INTO invoice_lines (invoice_id, line, text, quantity, unit_price) SELECT 1 + i / 5, 1 + i % 5, 'Line ' || i, 1 + i % 3, 10 + i % 90 FROM generate_series(0, 49 + $1::int / 40) i`, size},
	{`INSERT INTO activity (at, what, detail) SELECT now() - i * interval '1 second', 'edited task ' || i, jsonb_build_object('before', repeat(md5(i::text), 9), 'after', repeat(md5((i + 1)::text), 9))
	  FROM generate_series(1, 50 + $1::int) i`, size},
	{`INSERT INTO accounts (owner_tag, balance) SELECT $1::text, 0 FROM generate_series(1, 5 + 0 * $2::int)`, tagged},
	{`INSERT INTO entries (id, account_id, amount, tenant) SELECT gen_random_uuid(), 1 + i % 5, i % 1000, $1::text FROM generate_series(1, 50 + $2::int) i`, tagged},
	{`ANALYZE`, nothing},
}

// superuser opens the database that owns the tenant's data, as who may read all of it.
func (p *play) superuser(ctx context.Context, tenant shardmap.TenantID) (*pgx.Conn, error) {
	cfg, err := p.server(ctx, tenant)
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, cfg)
}

// server describes a superuser's connection to the tenant's database, secured as the fleet is.
func (p *play) server(ctx context.Context, tenant shardmap.TenantID) (*pgx.ConnConfig, error) {
	t, err := p.admin.Tenant(ctx, string(tenant))
	if err != nil {
		return nil, err
	}
	for _, s := range p.fleet.Info().Shards {
		if s.ID != t.Shard {
			continue
		}
		cfg, err := pgx.ParseConfig(s.PostgresDSN)
		if err != nil {
			return nil, err
		}
		cfg.Database = t.Database
		return cfg, nil
	}
	return nil, fmt.Errorf("tenant %s lives on shard %s, which the fleet does not have", tenant, t.Shard)
}
