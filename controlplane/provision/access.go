package provision

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// Access is a temporary login of a person to one tenant's database.
type Access struct {
	Placement shardmap.Placement
	// Host and Port are the shard's Postgres itself: psql and dumps need a
	// session of their own. BouncerHost and BouncerPort are for clients that
	// should follow a move; there a session lasts one transaction.
	Host        string
	Port        uint16
	BouncerHost string
	BouncerPort uint16
	Login       secret.Login // shown once, kept nowhere
	As          shard.Access
	ExpiresAt   time.Time
}

// MaxAccess is the longest life of a temporary login; DefaultAccess is for a ttl of zero.
const (
	MaxAccess     = 24 * time.Hour
	DefaultAccess = time.Hour
)

// Grant makes a temporary login. An empty as means the owner. It can connect
// until ttl is over, and its sessions are ended soon after.
// Errors: catalog.ErrNotFound, ErrConflict (not active), ErrInvalid (as, ttl).
func (s *Service) Grant(ctx context.Context, id shardmap.TenantID, as shard.Access, ttl time.Duration, actor catalog.Actor) (Access, error) {
	if as == "" {
		as = shard.AccessOwner
	}
	if _, ok := as.Role(""); !ok {
		return Access{}, fmt.Errorf("%w: access as %q: want owner, rw or ro", ErrInvalid, as)
	}
	if ttl == 0 {
		ttl = DefaultAccess
	}
	if ttl < time.Second || ttl > MaxAccess {
		return Access{}, fmt.Errorf("%w: ttl %s: want from 1s to %s", ErrInvalid, ttl, MaxAccess)
	}
	t, err := s.store.GetTenant(ctx, id)
	if err != nil {
		return Access{}, err
	}
	if err := only(shardmap.Active)(t); err != nil {
		return Access{}, err
	}
	on, err := s.fleet.Shard(ctx, t.Placement.Shard)
	if err != nil {
		return Access{}, err
	}
	conn, err := s.fleet.Admin(ctx, on.ID, maintenance)
	if err != nil {
		return Access{}, err
	}
	defer closeConn(ctx, conn)
	login, until, err := shard.TempLogin(ctx, conn, t.Placement.Database, as, ttl)
	if err != nil {
		return Access{}, err
	}
	// A login without a record is handed to nobody, and expires unused.
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return s.record(ctx, tx, actor, "tenant.access", id, "ok", map[string]any{"login": login.User, "as": as, "until": until})
	})
	if err != nil {
		return Access{}, err
	}
	return Access{Placement: t.Placement, Host: on.PostgresHost, Port: on.PostgresPort, BouncerHost: on.BouncerHost,
		BouncerPort: on.BouncerPort, Login: login, As: as, ExpiresAt: until}, nil
}
