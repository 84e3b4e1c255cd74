package shard

import (
	"context"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
)

// dropping is the connection limit that Postgres gives a database when it
// begins to drop it. A drop that is broken off, by a crash or a lost
// connection, leaves the database at that: nobody gets in any more, not even a
// superuser, and all that can be done with it is to drop it.
const dropping = -2

// HalfDropped tells whether the drop of a database was begun. conn is an admin
// connection to another database of the server. No database is none.
func HalfDropped(ctx context.Context, conn *pgx.Conn, database string) (bool, error) {
	limit, err := connectionLimit(ctx, conn, database)
	if pg.Code(err) == pgerrcode.InvalidCatalogName {
		return false, nil
	}
	return limit == dropping, err
}
