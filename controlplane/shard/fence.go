package shard

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Fence keeps every login but superusers out of the database and returns when
// no session of one is left: after that no statement of a runtime login runs,
// until Unfence. conn is an admin connection to any database of the shard,
// outside a transaction. Fencing twice is no error. If it fails, the database
// may be fenced or not: Unfence or repeat.
func Fence(ctx context.Context, conn *pgx.Conn, database string) error { return errTODO }

// Unfence lets logins in again. A database that is not there is an error (3D000).
func Unfence(ctx context.Context, conn *pgx.Conn, database string) error { return errTODO }

// Fenced tells whether logins are kept out. A database that is not there is an error (3D000).
func Fenced(ctx context.Context, conn *pgx.Conn, database string) (bool, error) {
	return false, errTODO
}
