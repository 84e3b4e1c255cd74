// Package tenantdb is what both planes must agree on about a tenant's database
// X: the names of its roles, the logins that lead into it, and which of them a
// request takes. See docs/decisions/0010-four-logins.md.
//
// Import law: of this module, tenantdb imports internal packages only.
package tenantdb

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/secret"
)

// The roles of a database X. Names are opaque and global: a move keeps them.

// AnchorRole can't log in and owns nothing; every login of X is a member, which
// is what pg_hba.conf and PgBouncer's lookup go by.
func AnchorRole(database string) string { return database }

// OwnerRole can't log in; it owns the schema and its objects.
func OwnerRole(database string) string { return database + "_owner" }

// RWRole can't log in; it is what an editor's request becomes.
func RWRole(database string) string { return database + "_rw" }

// RORole can't log in; it is what a viewer's request becomes.
func RORole(database string) string { return database + "_ro" }

// CustomRole can't log in; it is what a request becomes whose bearer has the
// tenant's own role of that name (see access.CheckCustomRole).
func CustomRole(database, name string) string { return database + "_r_" + name }

// RolePattern ends the names of all roles of one database, as a regular
// expression of Postgres; nothing is its anchor's.
const RolePattern = `(_owner|_rw|_ro|_(auth|own|sql_rw|sql_ro)_[ab]|_tmp_[0-9a-f]{8}|_r_[a-z][a-z0-9_]{0,39})?`

// Login is one of the platform's own logins to a database. What may be reached
// from a login by SET ROLE is what it is a member of, so that each kind of
// request has the login which can become no more than that request may be.
type Login uint8

const (
	// REST is for requests whose SQL is ours: it may become the role of any
	// viewer, editor or custom role, and by itself may do nothing.
	REST Login = iota
	// Owner works as [OwnerRole], for REST and for SQL.
	Owner
	// SQLWrite runs editors' own SQL, as [RWRole].
	SQLWrite
	// SQLRead runs viewers' own SQL, as [RORole].
	SQLRead

	// Logins is how many there are.
	Logins = 4
)

var kinds = [Logins]string{"_auth_", "_own_", "_sql_rw_", "_sql_ro_"}

// String names the kind of login, for messages.
func (l Login) String() string { return strings.Trim(kinds[l], "_") }

// Become lists the roles, beside the anchor, that the login is a member of.
// Custom roles are granted to [REST] as well, when they are made.
func (l Login) Become(database string) []string {
	switch l {
	case REST:
		return []string{RWRole(database), RORole(database)}
	case Owner:
		return []string{OwnerRole(database)}
	case SQLWrite:
		return []string{RWRole(database)}
	default:
		return []string{RORole(database)}
	}
}

// Turn ends the names of a database's logins. There can be two of each, by turns
// in use, so that passwords change without a gap: while one turn serves, the
// other is made ready, and closed again once nobody uses it.
type Turn string

// The turns.
const (
	FirstTurn  Turn = "a" // what a database is made with
	SecondTurn Turn = "b"
)

// Other is the turn that comes after t.
func (t Turn) Other() Turn {
	if t == FirstTurn {
		return SecondTurn
	}
	return FirstTurn
}

// UserAt is the name of the login at a turn.
func (l Login) UserAt(database string, turn Turn) string { return database + kinds[l] + string(turn) }

// User is the name of the login that a database is made with.
func (l Login) User(database string) string { return l.UserAt(database, FirstTurn) }

// ErrDocument: a database's secret is not what it should be.
var ErrDocument = errors.New("the secret is no login to this database")

// TurnOf tells which turn a database's secret is for. Errors: [ErrDocument].
func TurnOf(document secret.Login, database string) (Turn, error) {
	turn, ok := strings.CutPrefix(document.User, database+kinds[REST])
	if t := Turn(turn); ok && (t == FirstTurn || t == SecondTurn) {
		return t, nil
	}
	return "", fmt.Errorf("%w: %s", ErrDocument, database)
}

// From returns the login as it follows from the database's secret, which is
// the login REST itself. The others' passwords are derived from its password
// (HKDF-SHA-256, 192 bits, bound to the login's name), so that a database has
// one secret to be read, written and rotated, whatever logins it has.
func (l Login) From(document secret.Login, database string) (secret.Login, error) {
	if l == REST {
		return document, nil
	}
	turn, err := TurnOf(document, database)
	if err != nil {
		return secret.Login{}, err
	}
	user := l.UserAt(database, turn)
	key, err := hkdf.Key(sha256.New, []byte(document.Password), nil, "freehold login "+user, 24)
	if err != nil {
		return secret.Login{}, fmt.Errorf("password of %s: %w", user, err)
	}
	return secret.Login{User: user, Password: base64.RawURLEncoding.EncodeToString(key), Generation: document.Generation}, nil
}

// ForREST says as which role, and by which login, a request of a bearer with
// the access role works when its SQL is ours. It is for names that were checked:
// any that is not built in is one of the tenant's own.
func ForREST(database, accessRole string) (role string, by Login) {
	switch accessRole {
	case access.RoleViewer:
		return RORole(database), REST
	case access.RoleEditor:
		return RWRole(database), REST
	case access.RoleOwner:
		return OwnerRole(database), Owner
	default:
		return CustomRole(database, accessRole), REST
	}
}

// ErrNoSQL: bearers with a role of the tenant's own can't run SQL of their own.
// It would need a login for each such role, since SET ROLE goes by the login.
var ErrNoSQL = errors.New("the role has no login for SQL")

// ForSQL is [ForREST] for SQL that the bearer wrote. Errors: [ErrNoSQL].
func ForSQL(accessRole string) (Login, error) {
	switch accessRole {
	case access.RoleViewer:
		return SQLRead, nil
	case access.RoleEditor:
		return SQLWrite, nil
	case access.RoleOwner:
		return Owner, nil
	default:
		return 0, fmt.Errorf("%w: %s", ErrNoSQL, accessRole)
	}
}
