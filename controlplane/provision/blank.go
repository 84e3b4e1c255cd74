package provision

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

// Blank is an empty database under construction, for one worker to fill with a copy.
type Blank struct {
	// Login fills its tables; Admin is a session inside it that touches none of them.
	Login *shard.Mover
	Admin *pgx.Conn
	Roles []string // custom ones that it has

	database, application string
	// mark names a table of the database, and so tells it from one that another
	// worker made under its name meanwhile.
	mark string
}

// BlankSpec says which database is made, and of what.
type BlankSpec struct {
	Shard       shardmap.ShardID
	Database    string // the inventory's row is there
	Application string // names the sessions
	// Held tells whether the caller's lease does: others are only stopped by whom the operation belongs to.
	Held func(ctx context.Context) error
	// Create makes roles and database by a session of the shard, and returns which custom roles there are.
	Create func(ctx context.Context, conn *pgx.Conn, document secret.Login) (roles []string, err error)
}

// Blank makes the database, anew if it was begun before, and keeps whoever is
// still at the old one from it. The caller closes it.
func (s *Service) Blank(ctx context.Context, spec BlankSpec) (b *Blank, err error) {
	conn, err := s.fleet.Session(ctx, spec.Shard, maintenance, spec.Application)
	if err != nil {
		return nil, err
	}
	defer closeConn(ctx, conn)
	if err := spec.Held(ctx); err != nil { // before we stop anybody
		return nil, err
	}
	release, err := shard.Seize(ctx, conn, spec.Database)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := spec.Held(ctx); err != nil {
		return nil, err
	}
	document, err := s.makeLogin(ctx, spec.Database)
	if err != nil {
		return nil, err
	}
	id := uuid.Must(uuid.NewV7())
	b = &Blank{database: spec.Database, application: spec.Application, mark: "copy_" + hex.EncodeToString(id[:])}
	if b.Roles, err = spec.Create(ctx, conn, document); err != nil {
		return nil, err
	}
	if err := s.enterBlank(ctx, spec, b); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (s *Service) enterBlank(ctx context.Context, spec BlankSpec, b *Blank) (err error) {
	if b.Login, err = s.fleet.Mover(ctx, spec.Shard, spec.Database); err != nil {
		return err
	}
	if b.Admin, err = s.fleet.TableSession(ctx, spec.Shard, spec.Database, spec.Application); err != nil {
		return err
	}
	_, err = b.Admin.Exec(ctx, "CREATE TABLE freehold."+pg.Ident(b.mark)+" ()")
	return err
}

// Connect connects by the login that fills tables. Errors: operation.ErrLeaseLost, if
// another worker has made the database anew.
func (b *Blank) Connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := b.Login.Connect(ctx, b.application)
	if err != nil {
		return nil, err
	}
	var ours bool
	err = conn.QueryRow(ctx, "SELECT pg_catalog.to_regclass($1) IS NOT NULL", "freehold."+b.mark).Scan(&ours)
	if err == nil && !ours {
		err = fmt.Errorf("database %s was made anew by another worker: %w", b.database, operation.ErrLeaseLost)
	}
	if err != nil {
		closeConn(ctx, conn)
		return nil, err
	}
	return conn, nil
}

// Filled takes the mark away: nothing tells the database from others any more.
func (b *Blank) Filled(ctx context.Context) error {
	_, err := b.Admin.Exec(ctx, "DROP TABLE freehold."+pg.Ident(b.mark))
	return err
}

// Close ends the sessions and drops the login.
func (b *Blank) Close() {
	if b == nil {
		return
	}
	if b.Admin != nil {
		closeConn(context.Background(), b.Admin)
	}
	b.Login.Close()
}
