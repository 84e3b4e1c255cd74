package adminapi

import (
	"context"
	"net/http"
	"path/filepath"
	"sort"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

func (a *API) listShards(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query, "limit", "cursor", "state"); err != nil {
		return answer{}, err
	}
	p, err := readPage("shards", c.query)
	if err != nil {
		return answer{}, err
	}
	state := catalog.ShardState(c.query.Get("state"))
	switch state {
	case "", catalog.ShardActive, catalog.ShardCordoned, catalog.ShardDraining, catalog.ShardDown:
	default:
		return answer{}, invalidParameter("state", "is not active, cordoned, draining or down")
	}
	all, err := a.Catalog.ListShards(ctx) // a fleet has at most thousands
	if err != nil {
		return answer{}, err
	}
	from := sort.Search(len(all), func(i int) bool { return string(all[i].ID) > p.after })
	var items []catalog.ShardUsage
	next := ""
	for _, s := range all[from:] {
		if state != "" && s.State != state || !c.seesShard(s.ID) {
			continue
		}
		if len(items) == p.limit {
			next = string(items[len(items)-1].ID)
			break
		}
		items = append(items, s)
	}
	return ok(pageOf("shards", items, next, shardDoc))
}

func (a *API) getShard(ctx context.Context, c *call) (answer, error) {
	id, err := c.shardID()
	if err != nil {
		return answer{}, err
	}
	return a.showShard(ctx, id, http.StatusOK)
}

func (a *API) showShard(ctx context.Context, id shardmap.ShardID, status int) (answer, error) {
	s, err := a.Catalog.GetShardUsage(ctx, id)
	if err != nil {
		return answer{}, err
	}
	return answer{status: status, doc: shardDoc(s)}, nil
}

func (a *API) shardAddress(ctx context.Context, c *call) (answer, error) {
	id, err := c.shardID()
	if err != nil {
		return answer{}, err
	}
	s, err := a.Catalog.GetShard(ctx, id)
	if err != nil {
		return answer{}, err
	}
	return ok(shardmap.Shard{ID: s.ID, Host: s.BouncerHost, Port: s.BouncerPort, Version: s.Version})
}

const (
	maxLabels = 64
	maxHost   = 255
)

func (a *API) addShard(ctx context.Context, c *call) (answer, error) {
	var in api.AddShard
	if err := decode(c.body, &in); err != nil {
		return answer{}, err
	}
	c.about("shard", in.ID)
	id, err := shardmap.ParseShardID(in.ID)
	if err != nil {
		return answer{}, badID(err, "/id")
	}
	if err := checkShard(in); err != nil {
		return answer{}, err
	}
	s, err := a.Shards.AddShard(ctx, provision.ShardSpec{
		Shard: catalog.Shard{
			ID: id, Region: in.Region, Class: in.Class, Labels: in.Labels,
			PostgresHost: in.Postgres.Host, PostgresPort: in.Postgres.Port,
			BouncerHost: in.Bouncer.Host, BouncerPort: in.Bouncer.Port,
			RoutesFile: in.RoutesFile, PostgresTLSDir: in.PostgresTLSDir, MaxDatabases: in.MaxDatabases,
		},
		Admin:   secret.Login{User: in.Admin.User, Password: in.Admin.Password},
		Console: secret.Login{User: in.BouncerAdmin.User, Password: in.BouncerAdmin.Password},
	}, c.actor)
	if err != nil {
		return answer{}, err
	}
	return a.showShard(ctx, s.ID, http.StatusCreated)
}

func checkShard(in api.AddShard) error {
	p := invalidBody()
	for pointer, s := range map[string]string{"/region": in.Region, "/class": in.Class} {
		if checkName(pointer, s) != nil {
			p.At(pointer, "is longer than 200 bytes or has characters that are not printable")
		}
	}
	for pointer, e := range map[string]api.Endpoint{"/postgres": in.Postgres, "/bouncer": in.Bouncer} {
		if e.Host == "" || len(e.Host) > maxHost || !printable(e.Host) {
			p.At(pointer+"/host", "is not a name, an address or a directory of a unix socket")
		}
		if e.Port == 0 {
			p.At(pointer+"/port", "is not from 1 to 65535")
		}
	}
	for pointer, l := range map[string]api.Login{"/admin": in.Admin, "/bouncer_admin": in.BouncerAdmin} {
		if l.User == "" || len(l.User) > 63 || !printable(l.User) {
			p.At(pointer+"/user", "is not a user's name")
		}
		if len(l.Password) > 1000 || !printable(l.Password) {
			p.At(pointer+"/password", "is longer than 1000 bytes or has characters that are not printable")
		}
	}
	if len(in.Labels) > maxLabels {
		p.At("/labels", "has more than 64 entries")
	}
	for k, v := range in.Labels {
		if k == "" || checkName("", k) != nil || checkName("", v) != nil {
			p.At("/labels", "has a key or value that is empty, longer than 200 bytes or not printable")
			break
		}
	}
	if in.MaxDatabases < 0 {
		p.At("/max_databases", "is negative")
	}
	for pointer, path := range map[string]string{"/routes_file": in.RoutesFile, "/postgres_tls_dir": in.PostgresTLSDir} {
		if path != "" && (!filepath.IsAbs(path) || !printable(path)) {
			p.At(pointer, "is not an absolute path")
		}
	}
	if len(p.Errors) == 0 {
		return nil
	}
	sort.Slice(p.Errors, func(i, j int) bool { return p.Errors[i].Pointer < p.Errors[j].Pointer })
	return p
}

func (a *API) cordonShard(ctx context.Context, c *call) (answer, error) {
	return a.setShardState(ctx, c, "shard.cordon", catalog.ShardActive, catalog.ShardCordoned)
}

func (a *API) uncordonShard(ctx context.Context, c *call) (answer, error) {
	return a.setShardState(ctx, c, "shard.uncordon", catalog.ShardCordoned, catalog.ShardActive)
}

// setShardState changes the state and records it in one transaction. A shard
// that is in the state already is no error, so that a repeat does no harm.
func (a *API) setShardState(ctx context.Context, c *call, action string, from, to catalog.ShardState) (answer, error) {
	id, err := c.shardID()
	if err != nil {
		return answer{}, err
	}
	if err := decode(c.body, &struct{}{}); err != nil {
		return answer{}, err
	}
	err = a.Catalog.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := a.Catalog.SetShardState(ctx, tx, id, []catalog.ShardState{from}, to); err != nil {
			return err
		}
		return a.Catalog.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: c.actor, Action: action, Object: "shard/" + string(id), Outcome: "ok", TraceID: traceID(ctx)})
	})
	if err != nil {
		return answer{}, err
	}
	return a.showShard(ctx, id, http.StatusOK)
}

// shardID is the path's.
func (c *call) shardID() (shardmap.ShardID, error) {
	id, err := shardmap.ParseShardID(c.params.ByName("shard"))
	if err != nil {
		return "", badParam(err, "shard")
	}
	return id, nil
}

func shardDoc(s catalog.ShardUsage) api.Shard {
	labels := s.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	return api.Shard{
		ID: s.ID, State: string(s.State), Region: s.Region, Class: s.Class, Labels: labels,
		Postgres:   api.Endpoint{Host: s.PostgresHost, Port: s.PostgresPort},
		Bouncer:    api.Endpoint{Host: s.BouncerHost, Port: s.BouncerPort},
		RoutesFile: s.RoutesFile, PostgresTLSDir: s.PostgresTLSDir, MaxDatabases: s.MaxDatabases,
		Tenants: s.Tenants, Ready: s.Ready, Databases: s.Databases,
		Version: s.Version, CreatedAt: s.CreatedAt.UTC(),
	}
}
