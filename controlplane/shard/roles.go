package shard

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/secret"
)

var errTODO = errors.New("not written yet")

const closeFor = 2 * time.Second

// Roles of the database X; see the table in docs/architecture.md.
func AnchorRole(database string) string { return database }             // NOLOGIN, owns nothing: every login of X is a member
func OwnerRole(database string) string  { return database + "_owner" }  // NOLOGIN, owns schema and objects
func RWRole(database string) string     { return database + "_rw" }     // NOLOGIN, what a writing request becomes
func RORole(database string) string     { return database + "_ro" }     // NOLOGIN, what a reading request becomes
func AuthLogin(database string) string  { return database + "_auth_a" } // LOGIN of the data plane

// Limits of one tenant at its shard. Zero leaves a limit out.
type Limits struct {
	Connections      int
	StatementTimeout time.Duration
	IdleInTx         time.Duration
}

// CreateRoles makes the roles of a database; verifier is what Postgres stores
// for the password of [AuthLogin] (pg.ScramVerifier). Roles that are there are
// brought to the same shape and verifier.
func CreateRoles(ctx context.Context, conn *pgx.Conn, database, verifier string, limits Limits) error {
	return errTODO
}

// CopyRoles copies every role of the database (anchor, owner, rw, ro, all
// logins) from src's server to dst's, with the stored verifiers byte for byte
// (PgBouncer logs in with a client key made from them), VALID UNTIL,
// connection limits, memberships and the roles' own settings. Settings bound
// to the database need the database there: see [CreateTarget].
func CopyRoles(ctx context.Context, src, dst *pgx.Conn, database string) error { return errTODO }

// CreateTarget makes what a move fills at dst: all roles, and the fenced,
// empty database from freehold_base with the source's database and
// role-in-database settings and CONNECT for the same logins. src and dst are
// admin connections to any database of their servers (dst's not to this one). A fenced database of
// that name at dst is a leftover of a try before and is replaced. Errors: [ErrInUse].
func CreateTarget(ctx context.Context, src, dst *pgx.Conn, database string) error { return errTODO }

// DropDatabaseAndRoles removes the database, its sessions and its roles. What
// is not there is no error. Slots and subscriptions of it must be gone.
func DropDatabaseAndRoles(ctx context.Context, conn *pgx.Conn, database string) error { return errTODO }

// Access says as whom a temporary login works.
type Access string

const (
	AccessOwner Access = "owner"
	AccessRW    Access = "rw"
	AccessRO    Access = "ro"
)

// TempLogin makes a login for a person that can connect until ttl has passed
// and works as the given role.
func TempLogin(ctx context.Context, conn *pgx.Conn, database string, access Access, ttl time.Duration) (secret.Login, time.Time, error) {
	return secret.Login{}, time.Time{}, errTODO
}

// SweepTempLogins ends the sessions of all expired temporary logins of the
// server and drops them. It returns how many.
func SweepTempLogins(ctx context.Context, conn *pgx.Conn) (int, error) { return 0, errTODO }
