// Package identity finds out who calls the admin API, by what he shows: a token
// of the tokens file, a machine's access token, or a token of an OpenID Connect
// issuer. What he may do comes with it; what that means package authority decides.
//
// Access tokens and bindings are rows of the catalog, read with every request: a
// revocation holds at all replicas from its commit on.
//
// Import law: of this module, identity imports shardmap, internal packages, and
// controlplane/authority and catalog only.
package identity

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/controlplane/catalog"
)

// Errors a caller decides on. Their texts are for people.
var (
	// ErrInvalid is wrapped by every refusal of a malformed request; the text says what to change.
	ErrInvalid = errors.New("invalid request")
	// ErrBeyond: more was asked for than who asks has himself.
	ErrBeyond = errors.New("nobody hands out more than he has")
)

// File is the list of tokens that needs no catalog (*adminapi.Tokens).
type File interface {
	Lookup(token string) (authority.Principal, bool)
}

// Desk is one replica's. All methods are safe for concurrent use.
type Desk struct {
	store  *catalog.Store
	file   File
	people *People
	log    *slog.Logger
}

// New makes the desk. people may be nil: no issuer is configured. A nil log is [slog.Default].
func New(store *catalog.Store, file File, people *People, log *slog.Logger) *Desk {
	if log == nil {
		log = slog.Default()
	}
	return &Desk{store: store, file: file, people: people, log: log}
}

// People are those of the configured issuers; nil if there are none.
func (d *Desk) People() *People { return d.people }

// Authenticate tells who a credential belongs to; from is the address it came from.
// Errors: authority.ErrUnknown, ErrExpired, ErrRevoked, ErrUnsettled; catalog.ErrUnavailable.
func (d *Desk) Authenticate(ctx context.Context, credential, from string) (authority.Principal, error) {
	if who, ok := d.file.Lookup(credential); ok {
		return who, nil
	}
	switch {
	case strings.HasPrefix(credential, tokenPrefix):
		return d.machine(ctx, credential, from)
	case d.people != nil && strings.Count(credential, ".") == 2:
		return d.person(ctx, credential)
	}
	return authority.Principal{}, authority.ErrUnknown
}

// person is who bears an issuer's token, with the roles that he, or a group of his, is bound to.
func (d *Desk) person(ctx context.Context, token string) (authority.Principal, error) {
	who, subject, err := d.people.verify(ctx, token)
	if err != nil {
		return authority.Principal{}, err
	}
	rows, err := d.store.Pool().Query(ctx, `select role_grant, expires_at, id from role_bindings where issuer = $1
		and (kind = 'user' and subject = $2 or kind = 'group' and subject = any($3)) and (expires_at is null or expires_at > clock_timestamp())
		order by id limit $4`, who.Issuer, subject, append([]string{}, who.Groups...), maxBindings)
	if err != nil {
		return authority.Principal{}, catalog.Classify(err)
	}
	bound, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (g authority.Grant, err error) {
		err = row.Scan(&g, &g.Until, &g.Binding)
		return g, err
	})
	if err != nil {
		return authority.Principal{}, catalog.Classify(err)
	}
	who.Grants = append(who.Grants, bound...)
	return who, nil
}
