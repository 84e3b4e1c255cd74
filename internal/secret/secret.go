// Package secret keeps credentials and keys. [Store] and [Keys] are the
// contract; [OpenDir] keeps them in an encrypted directory that all servers of
// a fleet reach.
package secret

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Errors a caller decides on.
var (
	// ErrNotFound: there is no secret at that path.
	ErrNotFound = errors.New("secret not found")
	// ErrConflict: a compare-and-set Put met another version than it expected.
	ErrConflict = errors.New("secret was changed meanwhile")
	// ErrUnavailable: the store cannot be asked now; cached values stay good until their lease ends.
	ErrUnavailable = errors.New("secret store unavailable")
	// ErrDenied: whoever asks may not have that secret, as a data-plane node may no shard's admin login.
	ErrDenied = errors.New("secret is not for this part of the fleet")
)

// Login is a database login. It is never printed: String hides the password.
type Login struct {
	User     string `json:"user"`
	Password string `json:"password"`
	// Generation grows with each rotation.
	Generation int64 `json:"generation"`
}

// String hides the password.
func (l Login) String() string { return l.User + ":***" }

// GoString hides the password from %#v too.
func (l Login) GoString() string { return l.String() }

// Store keeps logins by path. Paths are slash-separated lower-case words, e.g.
// ShardAdmin("s1"). Version counts from 1; a Put with version 0 must create.
type Store interface {
	// Get returns the login and its version, or ErrNotFound, ErrUnavailable.
	Get(ctx context.Context, path string) (Login, int64, error)
	// Put writes the login if the stored version is `version` (0: must not exist), and returns the new version, or ErrConflict.
	Put(ctx context.Context, path string, l Login, version int64) (int64, error)
	// Delete removes the login; deleting what is not there is no error.
	Delete(ctx context.Context, path string) error
}

var pathPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)*$`)

// CheckPath refuses what is no path of a [Store]. The first word is never
// "tenants", where the embedded store keeps its other part.
func CheckPath(path string) error {
	if !pathPattern.MatchString(path) || len(path) > 200 || strings.HasPrefix(path, tenantsDir+"/") {
		return fmt.Errorf("secret path %.80q: want lower-case words joined by slashes, the first not %q", path, tenantsDir)
	}
	return nil
}

// CheckKeyName refuses what is no name of [Keys].
func CheckKeyName(name string) error {
	if !pathPattern.MatchString(name) || strings.Contains(name, "/") || len(name) > 100 {
		return fmt.Errorf("key name %.80q: want one lower-case word", name)
	}
	return nil
}

// ShardAdmin is the path of a shard's Postgres admin login.
func ShardAdmin(shard string) string { return "shards/" + shard + "/admin" }

// ShardBouncer is the path of a shard's PgBouncer console login.
func ShardBouncer(shard string) string { return "shards/" + shard + "/bouncer" }

// DatabaseAuth is the path of the data plane's login to a tenant database.
func DatabaseAuth(database string) string { return "databases/" + database + "/auth" }
