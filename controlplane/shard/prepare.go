package shard

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

// baseScript hardens a copy of template0 into [TemplateBase]. A change of it needs a new baseVersion.
//
// What a login can see of others through backend statistics and locks is taken
// away, and so is what lets those who only read write to the log that all share;
// large objects have no owner role's default privileges and don't travel with
// logical replication, so there are none.
const baseScript = `
SET LOCAL search_path = pg_catalog;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO ` + templateOwner + `;
CREATE SCHEMA ` + migrationsSchema + ` AUTHORIZATION ` + templateOwner + `;
CREATE SCHEMA ` + platformSchema + `;
COMMENT ON SCHEMA ` + platformSchema + ` IS 'kept by the platform; not part of the application';
CREATE TABLE ` + platformSchema + `.barrier (id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
COMMENT ON TABLE ` + platformSchema + `.barrier IS 'a row of a move, seen at the target once all before it is there';
` + lookupSQL + `
REVOKE ALL ON FUNCTION ` + platformSchema + `.lookup(text) FROM PUBLIC;
COMMENT ON FUNCTION ` + platformSchema + `.lookup(text) IS 'what PgBouncer asks: the verifier of a login of this very database';
` + hideSQL

// PrepareShard does once per server what isolation needs: PUBLIC may connect
// to none of its databases, the platform's roles are there. It never changes
// the password of [BouncerRole]: that is made with PgBouncer's configuration.
// Errors: catalog.ErrConflict (the server is another shard).
func (f *Fleet) PrepareShard(ctx context.Context, id shardmap.ShardID) error {
	conn, err := f.Admin(ctx, id, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return prepare(ctx, conn, id)
}

func prepare(ctx context.Context, conn *pgx.Conn, id shardmap.ShardID) error {
	if err := lockSession(ctx, conn, lockPrepare); err != nil {
		return fmt.Errorf("shard %s: prepare: %w", id, err)
	}
	defer unlockSession(ctx, conn, lockPrepare)
	// Asked under the lock: somebody may be registering the same server under another name right now.
	if is, err := markOf(ctx, conn); err != nil {
		return err
	} else if is != "" && is != id {
		return fmt.Errorf("shard %s: %w: the server is shard %s", id, catalog.ErrConflict, is)
	}
	rows, err := conn.Query(ctx, "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname = ANY($1::text[])", []string{BouncerRole, templateOwner})
	if err != nil {
		return fmt.Errorf("shard %s: prepare: %w", id, err)
	}
	there, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("shard %s: prepare: %w", id, err)
	}
	var b strings.Builder
	has := strings.Join(there, " ")
	if !strings.Contains(has, BouncerRole) {
		fmt.Fprintf(&b, "CREATE ROLE %s LOGIN;\n", BouncerRole) // can't log in before it is given a password
	}
	if !strings.Contains(has, templateOwner) {
		fmt.Fprintf(&b, "CREATE ROLE %s NOLOGIN;\n", templateOwner)
	}
	const plain = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
	fmt.Fprintf(&b, "ALTER ROLE %s WITH %s;\nALTER ROLE %s WITH %s NOLOGIN;\n", BouncerRole, plain, templateOwner, plain)
	makeGroup(&b, tenantdb.TenantLogins)
	makeGroup(&b, tenantdb.People)
	b.WriteString("REVOKE ALL ON DATABASE postgres, template0, template1 FROM PUBLIC;\n")
	mark, err := pg.Literal(shardMark + string(id))
	if err != nil {
		return err
	}
	fmt.Fprintf(&b, "COMMENT ON ROLE %s IS %s;\n", templateOwner, mark)
	if err := script(ctx, conn, b.String()); err != nil {
		return fmt.Errorf("shard %s: prepare: %w", id, err)
	}
	return nil
}

// shardMark begins the comment that tells which shard a server is.
const shardMark = "freehold shard "

// markOf reads which shard the server was prepared as; empty: none yet.
func markOf(ctx context.Context, conn *pgx.Conn) (shardmap.ShardID, error) {
	var mark string
	err := conn.QueryRow(ctx, `
		SELECT coalesce((SELECT pg_catalog.shobj_description(oid, 'pg_authid') FROM pg_catalog.pg_roles WHERE rolname = $1), '')`, templateOwner).Scan(&mark)
	if err != nil {
		return "", fmt.Errorf("which shard is this server: %w", err)
	}
	id, ok := strings.CutPrefix(mark, shardMark)
	if !ok {
		return "", nil
	}
	return shardmap.ShardID(id), nil
}
