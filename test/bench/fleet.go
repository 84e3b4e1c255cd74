package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/controlplane"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/issuer"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	warmPool  = 25 // on each of the two shards
	cleanUpIn = time.Minute
)

// fleet is a development fleet of durable servers, each part a process.
type fleet struct {
	*dev.Fleet
	admin  *client.Client
	signer *issuer.Signer
}

func start(ctx context.Context, binary string) (*fleet, error) {
	// Not os.TempDir: the servers' account must be able to pass through.
	dir, err := os.MkdirTemp("/var/tmp", "freehold-bench-")
	if err != nil {
		return nil, err
	}
	up, err := dev.Start(ctx, dev.Options{Dir: dir, Shards: 2, Nodes: 2, Processes: true, Binary: binary,
		ControlPlane: func(c *controlplane.Config) {
			c.WarmPool = warmPool
			c.MoveGrace = time.Millisecond // moves back and forth need not wait for clean-up
		},
		DataPlane: func(c *dataplane.Config) { c.RatePerTenant = 1e6 }})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	f := &fleet{Fleet: up}
	if f.admin, err = client.New(up.Info().AdminURL, up.Info().AdminToken); err == nil {
		f.signer, err = issuer.Open(dev.IssuerDir(dir))
	}
	if err != nil {
		return nil, errors.Join(err, f.stop(context.WithoutCancel(ctx)))
	}
	return f, nil
}

// stop ends the fleet and removes its files.
func (f *fleet) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanUpIn)
	defer cancel()
	err := f.Stop(ctx)
	if err == nil {
		err = dev.Destroy(ctx, f.Dir())
	}
	return errors.Join(err, os.RemoveAll(f.Dir()))
}

func (f *fleet) token(tenant shardmap.TenantID) (string, error) {
	return f.signer.Mint(issuer.Claims{Tenant: tenant, Role: issuer.RoleEditor, Subject: "bench"})
}

// await waits for an operation to succeed.
func (f *fleet) await(ctx context.Context, op api.Operation) (api.Operation, error) {
	if !op.Final() {
		var err error
		if op, err = f.admin.Watch(ctx, op.ID, func(api.Operation) error { return nil }); err != nil {
			return op, err
		}
	}
	if op.State != "done" {
		return op, fmt.Errorf("%s of %s: %s: %s", op.Kind, op.Tenant, op.State, op.Error)
	}
	return op, nil
}

func (f *fleet) create(ctx context.Context, tenant shardmap.TenantID, shard string) error {
	op, err := f.admin.CreateTenant(ctx, api.CreateTenant{ID: string(tenant), Shard: shard}, client.Change{})
	if err == nil {
		_, err = f.await(ctx, op)
	}
	return err
}

// move moves a tenant and returns the receipt, which must be sound.
func (f *fleet) move(ctx context.Context, tenant shardmap.TenantID, to string) (move.Receipt, error) {
	return f.moveAt(ctx, tenant, to, api.PaceConsiderate)
}

// moveAt is move at a pace.
func (f *fleet) moveAt(ctx context.Context, tenant shardmap.TenantID, to, pace string) (r move.Receipt, err error) {
	op, err := f.admin.MoveTenant(ctx, string(tenant), api.MoveTenant{To: to, Pace: pace}, client.Change{})
	if err != nil {
		return r, err
	}
	if op, err = f.await(ctx, op); err != nil {
		return r, err
	}
	if err := json.Unmarshal(op.Receipt, &r); err != nil {
		return r, err
	}
	if v := r.Verification; v.Copy != move.Equal || v.Final != move.Equal {
		return r, fmt.Errorf("move of %s to %s is verified as: copy %s, final %s", tenant, to, v.Copy, v.Final)
	}
	return r, nil
}

// other is the shard that a tenant can move to.
func other(shard string) string {
	if shard == "s1" {
		return "s2"
	}
	return "s1"
}

// dsn is of a database on a shard's Postgres, as superuser.
func (f *fleet) dsn(shard, database string) (string, error) {
	for _, s := range f.Info().Shards {
		if string(s.ID) != shard {
			continue
		}
		u, err := url.Parse(s.PostgresDSN)
		if err != nil {
			return "", err
		}
		u.Path = "/" + database
		return u.String(), nil
	}
	return "", fmt.Errorf("the fleet has no shard %s", shard)
}

func (f *fleet) postgres(ctx context.Context, shard, database string) (*pgx.Conn, error) {
	dsn, err := f.dsn(shard, database)
	if err != nil {
		return nil, err
	}
	return pgx.Connect(ctx, dsn)
}

// home opens the database that has the tenant's data.
func (f *fleet) home(ctx context.Context, tenant shardmap.TenantID) (*pgx.Conn, error) {
	t, err := f.admin.Tenant(ctx, string(tenant))
	if err != nil {
		return nil, err
	}
	return f.postgres(ctx, string(t.Shard), t.Database)
}
