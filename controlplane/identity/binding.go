package identity

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/controlplane/catalog"
)

// maxBindings bounds those of the fleet, and of one person.
const maxBindings = 10_000

// Binding is a role that a person or a group of an issuer has somewhere.
type Binding struct {
	ID        string
	Issuer    string // its name in the configuration
	Kind      string // user or group
	Subject   string // as the issuer's tokens have it
	Grant     authority.Grant
	MadeBy    string
	CreatedAt time.Time
	ExpiresAt *time.Time // nil: never
}

const (
	// KindUser and KindGroup say what a binding's subject is.
	KindUser  = "user"
	KindGroup = "group"
)

const bindingColumns = `id, issuer, kind, subject, role_grant, made_by, created_at, expires_at`

func scanBinding(row pgx.CollectableRow) (Binding, error) {
	var b Binding
	err := row.Scan(&b.ID, &b.Issuer, &b.Kind, &b.Subject, &b.Grant, &b.MadeBy, &b.CreatedAt, &b.ExpiresAt)
	return b, err
}

// Bind binds a person or a group of an issuer to a role somewhere; nobody
// binds others to more than he has, or for longer. A machine's access token binds nobody: what it did
// would outlast it. Errors: ErrInvalid, ErrBeyond.
func (d *Desk) Bind(ctx context.Context, b Binding, maker authority.Principal, actor catalog.Actor) (Binding, error) {
	switch {
	case d.people == nil || !d.people.has(b.Issuer):
		return b, fmt.Errorf("%w: issuer %.70q is not one of the control plane's", ErrInvalid, b.Issuer)
	case b.Kind != KindUser && b.Kind != KindGroup:
		return b, fmt.Errorf("%w: either a user or a group is bound", ErrInvalid)
	case !subjectOK(b.Subject):
		return b, fmt.Errorf("%w: %s %.70q: want 1 to %d printable bytes", ErrInvalid, b.Kind, b.Subject, maxSubject)
	case b.ExpiresAt != nil && !b.ExpiresAt.After(time.Now()):
		return b, fmt.Errorf("%w: expires_at is over already", ErrInvalid)
	case maker.Method == authority.ByToken:
		return b, fmt.Errorf("an access token binds nobody: %w", ErrBeyond)
	}
	if err := checkGrants([]authority.Grant{b.Grant}, maker, b.ExpiresAt); err != nil {
		return b, err
	}
	var id [6]byte
	_, _ = rand.Read(id[:]) // never fails
	err := d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `delete from role_bindings where expires_at < clock_timestamp()`); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(ctx, `select count(*) from role_bindings`).Scan(&n); err != nil {
			return err
		}
		if n >= maxBindings {
			return fmt.Errorf("%w: there are %d bindings; remove some", ErrInvalid, n)
		}
		rows, err := tx.Query(ctx, `insert into role_bindings (id, issuer, kind, subject, role_grant, made_by, expires_at) values ($1, $2, $3, $4, $5, $6, $7)
			returning `+bindingColumns, hex.EncodeToString(id[:]), b.Issuer, b.Kind, b.Subject, b.Grant, maker.Name, b.ExpiresAt)
		if err != nil {
			return err
		}
		if b, err = pgx.CollectExactlyOneRow(rows, scanBinding); err != nil {
			return err
		}
		return d.record(ctx, tx, actor, "binding.create", "binding/"+b.ID, b.said())
	})
	return b, err
}

func (b Binding) said() map[string]any {
	said := map[string]any{"issuer": b.Issuer, b.Kind: b.Subject, "grant": b.Grant}
	if b.ExpiresAt != nil {
		said["expires_at"] = b.ExpiresAt.UTC()
	}
	return said
}

// Bindings lists those that who may know, newest first.
func (d *Desk) Bindings(ctx context.Context, who authority.Principal, p catalog.Page) (bindings []Binding, next string, err error) {
	rows, err := d.store.Pool().Query(ctx, `select `+bindingColumns+` from role_bindings where expires_at is null or expires_at > clock_timestamp()
		order by created_at desc, id limit $1`, maxBindings)
	if err != nil {
		return nil, "", catalog.Classify(err)
	}
	all, err := pgx.CollectRows(rows, scanBinding)
	if err != nil {
		return nil, "", catalog.Classify(err)
	}
	all = slices.DeleteFunc(all, func(b Binding) bool { return !b.Grant.Within(who.Grants) })
	if p.After != "" {
		at := slices.IndexFunc(all, func(b Binding) bool { return b.ID == p.After })
		if at < 0 {
			return nil, "", nil
		}
		all = all[at+1:]
	}
	bindings, next = catalog.CutPage(p, all, func(b Binding) string { return b.ID })
	return bindings, next, nil
}

// Unbind removes a binding: from its commit on it gives nobody anything.
// Errors: catalog.ErrNotFound (also one that who may not know).
func (d *Desk) Unbind(ctx context.Context, id string, who authority.Principal, actor catalog.Actor) error {
	return d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `delete from role_bindings where id = $1 returning `+bindingColumns, id)
		if err != nil {
			return err
		}
		b, err := pgx.CollectExactlyOneRow(rows, scanBinding)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && !b.Grant.Within(who.Grants) {
			return fmt.Errorf("binding %.20s: %w", id, catalog.ErrNotFound)
		}
		if err != nil {
			return err
		}
		return d.record(ctx, tx, actor, "binding.remove", "binding/"+b.ID, b.said())
	})
}

const maxSubject = 128

// subjectOK tells whether a person's or group's name can stand in logs.
func subjectOK(s string) bool {
	if s == "" || len(s) > maxSubject {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return false
		}
	}
	return true
}
