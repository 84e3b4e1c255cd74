package dev

import (
	"context"
	"fmt"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/secret"
)

// register makes a shard known to the control plane, or renews its addresses.
func (f *Fleet) register(ctx context.Context, u *shardUnit) error {
	admin, err := f.admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	endpoint := func(host string, port int) api.Endpoint { return api.Endpoint{Host: host, Port: uint16(port)} } //nolint:gosec // a port
	login := func(l secret.Login) api.Login { return api.Login{User: l.User, Password: l.Password} }
	shard := api.AddShard{
		ID: string(u.id), Region: "local", Class: "dev",
		Postgres:   endpoint(u.postgres.server.Host(), u.postgres.server.Port()),
		Bouncer:    endpoint(u.bouncer.server.Host(), u.bouncer.server.Port()),
		RoutesFile: u.bouncer.server.RoutesFile(), PostgresTLSDir: u.postgres.server.TLSDir(),
		Admin: login(u.admin), BouncerAdmin: login(u.console),
	}
	if f.opts.Shard != nil {
		if err := f.opts.Shard(&shard); err != nil {
			return fmt.Errorf("register shard %s: %w", u.id, err)
		}
	}
	_, err = admin.AddShard(ctx, shard, client.Change{Reason: "the development fleet starts"})
	if err != nil {
		return fmt.Errorf("register shard %s: %w", u.id, err)
	}
	return nil
}
