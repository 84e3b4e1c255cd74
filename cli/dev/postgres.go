package dev

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgserver"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// Names of the parts in front of a shard's ID.
const (
	postgresPrefix = "postgres-"
	bouncerPrefix  = "bouncer-"
	catalogPart    = postgresPrefix + "catalog"
)

// postgresPart is a Postgres server and what has to be in it before anything else runs.
type postgresPart struct {
	f      *Fleet
	name   string
	cfg    pgserver.Config // without the port
	setup  func(ctx context.Context, s *pgserver.Postgres) error
	server *pgserver.Postgres // nil before the first start
}

func (p *postgresPart) start(ctx context.Context) error {
	if p.server != nil {
		return p.server.Start(ctx)
	}
	return p.f.onPort(p.name, func(port int) error {
		cfg := p.cfg
		cfg.Port = port
		s, err := pgserver.New(cfg)
		if err != nil {
			return err
		}
		if err := s.Init(ctx); err != nil {
			return err
		}
		if err := s.Start(ctx); err != nil {
			return err
		}
		p.server = s
		return p.setup(ctx, s)
	})
}

func (p *postgresPart) stop(ctx context.Context) error {
	if p.server == nil {
		return nil
	}
	return p.server.Stop(ctx)
}

func (p *postgresPart) kill() error {
	if p.server == nil {
		return nil
	}
	return p.server.Kill()
}

func (p *postgresPart) pid() int {
	if p.server == nil {
		return 0
	}
	return p.server.Pid()
}

func (p *postgresPart) ended() <-chan struct{} {
	if p.server == nil {
		return nil
	}
	return p.server.Done()
}

// bouncerPart is the PgBouncer in front of a shard's Postgres.
type bouncerPart struct {
	f       *Fleet
	name    string
	cfg     pgserver.BouncerConfig // without ports and backend
	backend *postgresPart
	server  *pgserver.Bouncer
}

func (b *bouncerPart) start(ctx context.Context) error {
	if b.server != nil {
		return b.server.Start(ctx)
	}
	return b.f.onPort(b.name, func(port int) error {
		cfg := b.cfg
		cfg.Port = port
		cfg.BackendHost, cfg.BackendPort = b.backend.server.SocketDir(), b.backend.server.Port()
		if cfg.TLS != nil {
			cfg.BackendHost = b.backend.server.Host() // a unix socket knows no TLS
		}
		s, err := pgserver.NewBouncer(cfg)
		if err != nil {
			return err
		}
		if err := s.Start(ctx); err != nil {
			return err
		}
		b.server = s
		return nil
	})
}

func (b *bouncerPart) stop(ctx context.Context) error {
	if b.server == nil {
		return nil
	}
	return b.server.Stop(ctx)
}

func (b *bouncerPart) kill() error {
	if b.server == nil {
		return nil
	}
	return b.server.Kill()
}

func (b *bouncerPart) pid() int {
	if b.server == nil {
		return 0
	}
	return b.server.Pid()
}

func (b *bouncerPart) ended() <-chan struct{} {
	if b.server == nil {
		return nil
	}
	return b.server.Done()
}

// shardUnit is a shard's Postgres and PgBouncer with the logins to both.
type shardUnit struct {
	id       shardmap.ShardID
	postgres *postgresPart
	bouncer  *bouncerPart
	admin    secret.Login
	console  secret.Login
}

func (f *Fleet) newCatalog(ctx context.Context) (*postgresPart, error) {
	admin, err := f.login(ctx, "dev/catalog/admin", "freehold_admin")
	if err != nil {
		return nil, err
	}
	files, err := f.serverTLS(catalogPart)
	if err != nil {
		return nil, err
	}
	hba := pgserver.OpenHBA()
	if files != nil {
		hba = secureHBA(hba)
	}
	return &postgresPart{f: f, name: catalogPart,
		cfg: pgserver.Config{Dir: f.dir.server(catalogPart), Superuser: admin.User, Password: admin.Password, TLS: files, HBA: hba,
			Settings:   map[string]string{"max_connections": "200", "shared_buffers": "64MB"},
			FastUnsafe: f.opts.FastUnsafe, DieWithParent: true, LogFile: f.dir.log(catalogPart)},
		setup: f.setupCatalog}, nil
}

// The catalog's two databases, each owned by the one login that uses it.
const (
	catalogDatabase = "freehold_catalog"
	auditDatabase   = "freehold_audit"
)

func (f *Fleet) setupCatalog(ctx context.Context, s *pgserver.Postgres) error {
	for _, l := range []secret.Login{f.catalogLogin, f.auditOwner} {
		if err := ensureLogin(ctx, s, l); err != nil {
			return err
		}
		if err := ensureDatabase(ctx, s, l.User, l.User); err != nil {
			return err
		}
	}
	if err := ensureLogin(ctx, s, f.auditLogin); err != nil {
		return err
	}
	return ensureAuditWriter(ctx, s, f.auditOwner.User, f.auditLogin.User)
}

// ensureAuditWriter makes the role that the audit database's schema grants
// INSERT to, as its owner may not create roles. The owner hands the rights out;
// the other member is the login by which the control plane works.
func ensureAuditWriter(ctx context.Context, s *pgserver.Postgres, members ...string) error {
	return onPostgres(ctx, s, func(conn *pgx.Conn) error {
		var there bool
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", audit.WriterRole).Scan(&there); err != nil {
			return err
		}
		role := pg.Ident(audit.WriterRole)
		if !there {
			if _, err := conn.Exec(ctx, "CREATE ROLE "+role); err != nil {
				return err
			}
		}
		for _, m := range members {
			if _, err := conn.Exec(ctx, "GRANT "+role+" TO "+pg.Ident(m)); err != nil {
				return err
			}
		}
		_, err := conn.Exec(ctx, "GRANT CONNECT ON DATABASE "+pg.Ident(auditDatabase)+" TO "+role)
		return err
	})
}

func (f *Fleet) newShard(ctx context.Context, id shardmap.ShardID) (*shardUnit, error) {
	u := &shardUnit{id: id}
	var err error
	if u.admin, err = f.login(ctx, "dev/shards/"+string(id)+"/admin", "freehold_admin"); err != nil {
		return nil, err
	}
	if u.console, err = f.login(ctx, "dev/shards/"+string(id)+"/console", "freehold_bouncer_admin"); err != nil {
		return nil, err
	}
	name := postgresPrefix + string(id)
	files, err := f.serverTLS(name)
	if err != nil {
		return nil, err
	}
	u.postgres = &postgresPart{f: f, name: name,
		cfg: pgserver.Config{Dir: f.dir.server(name), BinDir: f.state.PostgresBin[string(id)], Superuser: u.admin.User, Password: u.admin.Password,
			Settings: pgserver.ShardSettings(), TLS: files,
			HBA:        pgserver.HBA{Platform: []string{u.admin.User, f.lookup.User}, TLS: files != nil}.Lines(),
			FastUnsafe: f.opts.FastUnsafe, DieWithParent: true, LogFile: f.dir.log(name)},
		setup: func(ctx context.Context, s *pgserver.Postgres) error { return ensureLogin(ctx, s, f.lookup) }}
	name = bouncerPrefix + string(id)
	if files, err = f.serverTLS(name); err != nil {
		return nil, err
	}
	u.bouncer = &bouncerPart{f: f, name: name, backend: u.postgres,
		cfg: pgserver.BouncerConfig{Dir: f.dir.server(name), Auth: f.lookup, Admin: u.console, TLS: files,
			Known: []secret.Login{u.admin}, FastUnsafe: f.opts.FastUnsafe, DieWithParent: true, LogFile: f.dir.log(name)}}
	return u, nil
}

// ensureLogin makes a plain login unless it is there; its password is in the
// secret store from before, so it never needs to change.
func ensureLogin(ctx context.Context, s *pgserver.Postgres, l secret.Login) error {
	return onPostgres(ctx, s, func(conn *pgx.Conn) error {
		var there bool
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", l.User).Scan(&there); err != nil || there {
			return err
		}
		verifier, err := pg.ScramVerifier(l.Password)
		if err != nil {
			return err
		}
		quoted, err := pg.Literal(verifier)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "CREATE ROLE "+pg.Ident(l.User)+" LOGIN PASSWORD "+quoted)
		return err
	})
}

func ensureDatabase(ctx context.Context, s *pgserver.Postgres, name, owner string) error {
	return onPostgres(ctx, s, func(conn *pgx.Conn) error {
		var there bool
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&there); err != nil {
			return err
		}
		if !there {
			if _, err := conn.Exec(ctx, "CREATE DATABASE "+pg.Ident(name)+" OWNER "+pg.Ident(owner)); err != nil {
				return err
			}
		}
		_, err := conn.Exec(ctx, "REVOKE ALL ON DATABASE "+pg.Ident(name)+" FROM PUBLIC")
		return err
	})
}

func onPostgres(ctx context.Context, s *pgserver.Postgres, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return fmt.Errorf("connect to %s:%d: %w", s.Host(), s.Port(), err)
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is lost with it
	return do(conn)
}
