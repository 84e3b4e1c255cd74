package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/authority"
	"github.com/freehold-db/freehold/controlplane/catalog"
)

const (
	// tokenPrefix begins the text of every access token: fha_ID_SECRET.
	tokenPrefix = "fha_"
	secretBytes = 32
	// MaxTokenLife is the longest that a machine's token is good for.
	MaxTokenLife = 366 * 24 * time.Hour
	maxTokens    = 10_000 // in the whole fleet, those that are over for less than keepFor too
	keepFor      = 30 * 24 * time.Hour
	usedEvery    = time.Minute // how exact the time of the last use is
)

var tokenText = regexp.MustCompile(`^fha_([0-9a-f]{12})_([a-z2-7]{52})$`)

var secretText = base32.StdEncoding.WithPadding(base32.NoPadding)

// Token is a machine's access token, as operators see it: never its text, nor its hash.
type Token struct {
	ID           string
	Name         string
	Grants       []authority.Grant
	MadeBy       string
	Root         string // see authority.Principal.Root
	Parent       string // the token that it was made with, or empty
	CreatedAt    time.Time
	ExpiresAt    time.Time
	RevokedAt    *time.Time
	RevokedBy    string
	LastUsedAt   *time.Time
	LastUsedFrom string
	over         bool
}

// State is "active", "expired" or "revoked".
func (t Token) State() string {
	switch {
	case t.RevokedAt != nil:
		return "revoked"
	case t.over:
		return "expired"
	}
	return "active"
}

const tokenColumns = `id, name, grants, made_by, root, coalesce(parent, ''), created_at, expires_at, revoked_at, coalesce(revoked_by, ''),
	last_used_at, last_used_from, expires_at <= clock_timestamp()`

func scanToken(row pgx.CollectableRow) (Token, error) {
	var t Token
	err := row.Scan(&t.ID, &t.Name, &t.Grants, &t.MadeBy, &t.Root, &t.Parent, &t.CreatedAt, &t.ExpiresAt, &t.RevokedAt, &t.RevokedBy,
		&t.LastUsedAt, &t.LastUsedFrom, &t.over)
	return t, err
}

// machine is who bears an access token. An ID that there is not takes as long
// as one whose secret is wrong, and is refused in the same words.
func (d *Desk) machine(ctx context.Context, text, from string) (authority.Principal, error) {
	var none authority.Principal
	m := tokenText.FindStringSubmatch(text)
	if m == nil {
		return none, authority.ErrUnknown
	}
	given := sha256.Sum256([]byte(text))
	have := make([]byte, sha256.Size)
	rows, err := d.store.Pool().Query(ctx, `select digest, last_used_at is null or last_used_at < clock_timestamp() - make_interval(secs => $2), `+
		tokenColumns+` from access_tokens where id = $1`, m[1], usedEvery.Seconds())
	if err != nil {
		return none, catalog.Classify(err)
	}
	stale := false
	t, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (t Token, err error) {
		err = row.Scan(&have, &stale, &t.ID, &t.Name, &t.Grants, &t.MadeBy, &t.Root, &t.Parent, &t.CreatedAt, &t.ExpiresAt, &t.RevokedAt, &t.RevokedBy,
			&t.LastUsedAt, &t.LastUsedFrom, &t.over)
		return t, err
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return none, catalog.Classify(err)
	}
	same := subtle.ConstantTimeCompare(have, given[:]) == 1
	switch {
	case err != nil || !same:
		return none, authority.ErrUnknown
	case t.RevokedAt != nil:
		return none, fmt.Errorf("access token %s: %w", t.ID, authority.ErrRevoked)
	case t.over:
		return none, fmt.Errorf("access token %s: %w", t.ID, authority.ErrExpired)
	}
	if stale {
		// When it was used last is worth knowing, and not worth refusing it for.
		_, err := d.store.Pool().Exec(ctx, `update access_tokens set last_used_at = clock_timestamp(), last_used_from = $2
			where id = $1 and (last_used_at is null or last_used_at < clock_timestamp() - make_interval(secs => $3))`, t.ID, from, usedEvery.Seconds())
		if err != nil {
			d.log.WarnContext(ctx, "last use of an access token is not written down", "token", t.ID, "error", err)
		}
	}
	return authority.Principal{Name: "token:" + t.Name + "/" + t.ID, Method: authority.ByToken, Grants: t.Grants, Root: t.Root, Token: t.ID, Expires: t.ExpiresAt}, nil
}

// TokenSpec asks for an access token.
type TokenSpec struct {
	Name    string
	Expires time.Time
	Grants  []authority.Grant
}

var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// CreateToken makes a token that may do nothing that its maker may not. text is
// the only copy of what its bearer shows. A token made with a token ends with
// it: it expires no later, and is revoked when that is.
// Errors: ErrInvalid, ErrBeyond.
func (d *Desk) CreateToken(ctx context.Context, spec TokenSpec, maker authority.Principal, actor catalog.Actor) (t Token, text string, err error) {
	switch {
	case !tokenName.MatchString(spec.Name):
		return t, "", fmt.Errorf("%w: name %.70q: want 1 to 63 letters, digits and . _ -", ErrInvalid, spec.Name)
	case len(spec.Grants) == 0 || len(spec.Grants) > authority.MaxGrants:
		return t, "", fmt.Errorf("%w: a token has 1 to %d grants", ErrInvalid, authority.MaxGrants)
	case !spec.Expires.After(time.Now()) || spec.Expires.After(time.Now().Add(MaxTokenLife)):
		return t, "", fmt.Errorf("%w: it has to expire, in a year at the latest", ErrInvalid)
	case maker.Method == authority.ByToken && spec.Expires.After(maker.Expires):
		return t, "", fmt.Errorf("%w: the token that it is made with expires at %s", ErrBeyond, maker.Expires.UTC().Format(time.RFC3339))
	}
	if err := checkGrants(spec.Grants, maker, &spec.Expires); err != nil {
		return t, "", err
	}
	id, text := newToken()
	digest := sha256.Sum256([]byte(text))
	err = d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// What is over for long is forgotten in passing. Rows that others name stay.
		_, err := tx.Exec(ctx, `delete from access_tokens a where a.id in (select b.id from access_tokens b
			where least(b.expires_at, b.revoked_at) < clock_timestamp() - make_interval(secs => $1)
				and not exists (select from access_tokens c where c.parent = b.id) limit 20 for update skip locked)`, keepFor.Seconds())
		if err != nil {
			return err
		}
		// The parent's row is held, so that it is not revoked before its child is there to be revoked with it.
		if maker.Token != "" {
			var good bool
			err := tx.QueryRow(ctx, `select revoked_at is null and expires_at > clock_timestamp() from access_tokens where id = $1 for share`, maker.Token).Scan(&good)
			if err != nil {
				return err
			}
			if !good {
				return fmt.Errorf("%w: the token that it is made with is over", ErrBeyond)
			}
		}
		var n int
		if err := tx.QueryRow(ctx, `select count(*) from access_tokens`).Scan(&n); err != nil {
			return err
		}
		if n >= maxTokens {
			return fmt.Errorf("%w: there are %d access tokens; revoke some", ErrInvalid, n)
		}
		rows, err := tx.Query(ctx, `insert into access_tokens (id, name, digest, grants, made_by, root, parent, expires_at)
			values ($1, $2, $3, $4, $5, $6, nullif($7, ''), $8) returning `+tokenColumns,
			id, spec.Name, digest[:], spec.Grants, maker.Name, maker.Root, maker.Token, spec.Expires)
		if err != nil {
			return err
		}
		if t, err = pgx.CollectExactlyOneRow(rows, scanToken); err != nil {
			return err
		}
		return d.record(ctx, tx, actor, "access-token.create", "access-token/"+id,
			map[string]any{"name": t.Name, "expires_at": t.ExpiresAt.UTC(), "grants": t.Grants})
	})
	return t, text, err
}

func newToken() (id, text string) {
	var random [6 + secretBytes]byte
	_, _ = rand.Read(random[:]) // never fails
	id = hex.EncodeToString(random[:6])
	return id, tokenPrefix + id + "_" + strings.ToLower(secretText.EncodeToString(random[6:]))
}

// checkGrants refuses what is no grant, what its maker has not, and what he has
// for less than until (nil: for ever): a role for a day makes none for a year.
func checkGrants(grants []authority.Grant, maker authority.Principal, until *time.Time) error {
	lasting := maker.Lasting(until)
	for i, g := range grants {
		if err := g.Validate(); err != nil {
			return fmt.Errorf("%w: grant %d: %w", ErrInvalid, i+1, err)
		}
		switch {
		case !g.Within(maker.Grants):
			return fmt.Errorf("grant %d: %w", i+1, ErrBeyond)
		case !g.Within(lasting):
			return fmt.Errorf("grant %d: your own ends before it does: %w", i+1, ErrBeyond)
		}
	}
	return nil
}

// mayKnow tells whether who may see a token: his own, those that go
// back to him, and those that may do nothing that he may not. A token is no
// more than what it was made for: who made it may have others that are not its business.
func mayKnow(who authority.Principal, t Token) bool {
	if t.ID == who.Token || who.Method != authority.ByToken && t.Root == who.Root {
		return true
	}
	return !slices.ContainsFunc(t.Grants, func(g authority.Grant) bool { return !g.Within(who.Grants) })
}

// mayRevoke tells whether who may also have it refused: what goes back to him he
// may, and of others' what he is an admin of wherever it is good. A viewer is no
// danger to the other viewers.
func mayRevoke(who authority.Principal, t Token) bool {
	if t.ID == who.Token || who.Token != "" && t.Parent == who.Token || who.Method != authority.ByToken && t.Root == who.Root {
		return true
	}
	return !slices.ContainsFunc(t.Grants, func(g authority.Grant) bool {
		return !authority.Grant{Role: authority.Admin, Verbs: g.Verbs, Where: g.Where}.Within(who.Grants)
	})
}

// Tokens lists the tokens that who may know, newest first: those that may do
// nothing that he may not, and his own.
func (d *Desk) Tokens(ctx context.Context, who authority.Principal, p catalog.Page) (tokens []Token, next string, err error) {
	rows, err := d.store.Pool().Query(ctx, `select `+tokenColumns+` from access_tokens order by created_at desc, id limit $1`, maxTokens)
	if err != nil {
		return nil, "", catalog.Classify(err)
	}
	all, err := pgx.CollectRows(rows, scanToken)
	if err != nil {
		return nil, "", catalog.Classify(err)
	}
	all = slices.DeleteFunc(all, func(t Token) bool { return !mayKnow(who, t) })
	if p.After != "" {
		at := slices.IndexFunc(all, func(t Token) bool { return t.ID == p.After })
		if at < 0 {
			return nil, "", nil
		}
		all = all[at+1:]
	}
	tokens, next = catalog.CutPage(p, all, func(t Token) string { return t.ID })
	return tokens, next, nil
}

// RevokeToken has a token refused from its commit on, at all replicas, and with
// it those that were made with it. One that is revoked already stays as it is.
// Errors: catalog.ErrNotFound (also one that is not his to revoke).
func (d *Desk) RevokeToken(ctx context.Context, id string, who authority.Principal, actor catalog.Actor) (t Token, err error) {
	err = d.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `select `+tokenColumns+` from access_tokens where id = $1 for update`, id)
		if err != nil {
			return err
		}
		t, err = pgx.CollectExactlyOneRow(rows, scanToken)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && !mayRevoke(who, t) {
			return fmt.Errorf("access token %.20s: %w", id, catalog.ErrNotFound)
		}
		if err != nil || t.RevokedAt != nil {
			return err
		}
		rows, err = tx.Query(ctx, `with recursive line (id) as (select $1::text union select c.id from access_tokens c join line l on c.parent = l.id)
			update access_tokens a set revoked_at = clock_timestamp(), revoked_by = $2 from line where a.id = line.id and a.revoked_at is null returning a.id`, id, actor.Name)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, one := range ids {
			if err := d.record(ctx, tx, actor, "access-token.revoke", "access-token/"+one, map[string]any{"with": id}); err != nil {
				return err
			}
		}
		if rows, err = tx.Query(ctx, `select `+tokenColumns+` from access_tokens where id = $1`, id); err != nil {
			return err
		}
		t, err = pgx.CollectExactlyOneRow(rows, scanToken)
		return err
	})
	return t, err
}

func (d *Desk) record(ctx context.Context, tx pgx.Tx, actor catalog.Actor, action, object string, details any) error {
	text, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("audit record %s: %w", action, err)
	}
	return d.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: actor, Action: action, Object: object, Outcome: "ok", Details: text})
}
