package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/shardmap"
)

// KindRole is the kind of operation that makes or drops a tenant's database
// role. It is done at once, and an operation so that it and a move of the
// tenant keep out of each other's way.
const KindRole = "tenant-role"

// roleDoc is the operation's document and its receipt.
type roleDoc struct {
	Role string `json:"role"`
	Drop bool   `json:"drop,omitempty"`
}

func roleKind() operation.Kind[roleDoc] {
	return operation.Kind[roleDoc]{Name: KindRole, Steps: []operation.Step[roleDoc]{
		{Name: "role", Title: "changing a database role", Do: func(context.Context, *operation.Run[roleDoc]) error {
			return operation.Permanent(errors.New("a change of a role is recorded when it is done"))
		}},
	}}
}

// Role is a database role of a tenant's own. Its members are the tokens and
// keys that name it; what it may do, the tenant's owner grants.
type Role struct {
	Tenant      shardmap.TenantID
	Name        string
	Description string
	CreatedBy   string
	CreatedAt   time.Time
}

const roleColumns = `tenant, name, description, created_by, created_at`

// Roles lists a tenant's roles by name. There are at most access.MaxRoles.
// Errors: catalog.ErrNotFound (no such tenant).
func (s *Service) Roles(ctx context.Context, id shardmap.TenantID) ([]Role, error) {
	if _, err := s.store.GetTenant(ctx, id); err != nil {
		return nil, err
	}
	roles, err := many(ctx, s.store.Pool(), pgx.RowToStructByPos[Role], `select `+roleColumns+` from tenant_roles
		where tenant = $1 order by name collate "C"`, id)
	if err != nil {
		return nil, fmt.Errorf("roles of tenant %s: %w", id, err)
	}
	return roles, nil
}

// CreateRole makes a role in a tenant's database that may use the application's
// schemas and nothing in them. The same actor and request key find what they
// made. Errors: catalog.ErrNotFound, ErrConflict (deleted tenant), ErrExists,
// ErrBusy (an operation of the tenant is under way), ErrInvalid, ErrShard.
func (s *Service) CreateRole(ctx context.Context, id shardmap.TenantID, name, description string, actor catalog.Actor, requestKey string) (r Role, err error) {
	if err := access.CheckCustomRole(name); err != nil {
		return r, invalid(err)
	}
	if again, err := s.repeated(ctx, actor, requestKey); err != nil || again {
		return s.role(ctx, id, name, err)
	}
	err = s.changeRole(ctx, id, roleDoc{Role: name}, actor, requestKey, func(ctx context.Context, tx pgx.Tx, p shardmap.Placement, t *access.Tenant) error {
		if slices.Contains(t.Roles, name) {
			return fmt.Errorf("role %s of tenant %s: %w", name, id, ErrExists)
		}
		if len(t.Roles) == access.MaxRoles {
			return invalid(fmt.Errorf("a tenant has at most %d roles", access.MaxRoles))
		}
		t.Roles = append(t.Roles, name)
		r, err = one(ctx, tx, pgx.RowToStructByPos[Role], `insert into tenant_roles (tenant, name, description, created_by)
			values ($1, $2, $3, $4) returning `+roleColumns, id, name, description, actor.Name)
		if err != nil {
			return err
		}
		return onShard(s.roles.CreateCustomRole(ctx, p.Shard, p.Database, name))
	})
	return r, err
}

// DropRole drops a role. What it owns goes to the tenant's owner, what it was
// granted is gone. Errors: catalog.ErrNotFound (tenant or role), ErrConflict
// (deleted tenant), ErrBusy, ErrInUse (keys or issuers name it), ErrShard.
func (s *Service) DropRole(ctx context.Context, id shardmap.TenantID, name string, actor catalog.Actor, requestKey string) error {
	if again, err := s.repeated(ctx, actor, requestKey); err != nil || again {
		return err
	}
	return s.changeRole(ctx, id, roleDoc{Role: name, Drop: true}, actor, requestKey, func(ctx context.Context, tx pgx.Tx, p shardmap.Placement, t *access.Tenant) error {
		i := slices.Index(t.Roles, name)
		if i < 0 {
			return fmt.Errorf("role %.50s of tenant %s: %w", name, id, catalog.ErrNotFound)
		}
		if users := usersOf(*t, name); len(users) > 0 {
			return fmt.Errorf("role %s of tenant %s: %w by %s", name, id, ErrInUse, some(users))
		}
		t.Roles = slices.Delete(t.Roles, i, i+1)
		if _, err := tx.Exec(ctx, `delete from tenant_roles where tenant = $1 and name = $2`, id, name); err != nil {
			return catalog.Classify(err)
		}
		return onShard(s.roles.DropCustomRole(ctx, p.Shard, p.Database, name))
	})
}

// repeated tells whether the same request was done before.
func (s *Service) repeated(ctx context.Context, actor catalog.Actor, requestKey string) (bool, error) {
	if requestKey == "" {
		return false, nil
	}
	_, err := s.engine.FindRequest(ctx, actor.Name, requestKey)
	if errors.Is(err, catalog.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (s *Service) role(ctx context.Context, id shardmap.TenantID, name string, err error) (Role, error) {
	if err != nil {
		return Role{}, err
	}
	r, err := one(ctx, s.store.Pool(), pgx.RowToStructByPos[Role], `select `+roleColumns+` from tenant_roles where tenant = $1 and name = $2`, id, name)
	if err != nil {
		return r, fmt.Errorf("role %s of tenant %s: %w", name, id, err)
	}
	return r, nil
}

// shardFor bounds what the tenant's server is asked to do; the catalog's transaction waits for it.
const shardFor = 20 * time.Second

// changeRole has fn change the roles of a tenant that no operation is working
// on; none begins until the role is made and its row committed. A crash in
// between leaves the role without a row, or gone with its row still there;
// either is mended by asking for the same again.
func (s *Service) changeRole(ctx context.Context, id shardmap.TenantID, doc roleDoc, actor catalog.Actor, requestKey string,
	fn func(ctx context.Context, tx pgx.Tx, p shardmap.Placement, t *access.Tenant) error) error {
	action := "role.create"
	if doc.Drop {
		action = "role.drop"
	}
	ctx, cancel := context.WithTimeout(ctx, shardFor)
	defer cancel()
	return s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		t, err := s.store.LockTenant(ctx, tx, id)
		if err != nil {
			return err
		}
		_, err = s.engine.RecordDone(ctx, tx, operation.Spec{Kind: KindRole, Tenant: id, Data: doc, Actor: actor, RequestKey: requestKey}, doc)
		if err != nil {
			return err
		}
		p := t.Placement
		if p.State == shardmap.Deleted {
			return fmt.Errorf("tenant %s is deleted: %w", id, catalog.ErrConflict)
		}
		_, err = s.change(ctx, tx, id, nil, actor, action, func(t *access.Tenant) (any, error) {
			return map[string]any{"role": doc.Role, "shard": p.Shard}, fn(ctx, tx, p, t)
		})
		return err
	})
}

// usersOf names the keys and issuers that a role is the role of.
func usersOf(t access.Tenant, role string) (users []string) {
	for _, k := range t.Keys {
		if k.Role == role {
			users = append(users, "key "+k.ID)
		}
	}
	for _, i := range t.Issuers {
		if i.DefaultRole == role {
			users = append(users, "issuer "+i.URL)
		}
	}
	return users
}

func onShard(err error) error {
	if err == nil || errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrShard, err)
}
