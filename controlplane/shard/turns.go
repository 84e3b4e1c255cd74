package shard

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

// A database's logins change their passwords by turns: the turn that serves is
// never touched, the other one is made ready beside it, and closed again once
// nobody uses it (docs/decisions/0023-two-turns.md). A turn of the database is
// its four logins of that turn.

var turns = [...]tenantdb.Turn{tenantdb.FirstTurn, tenantdb.SecondTurn}

// TurnLogins names the database's logins of a turn.
func TurnLogins(database string, turn tenantdb.Turn) []string {
	names := make([]string, 0, len(allLogins))
	for _, l := range allLogins {
		names = append(names, l.UserAt(database, turn))
	}
	return names
}

// OpenTurn makes the logins of the document's turn as they follow from it, else
// like those of the other turn: attributes, limits, memberships, settings and
// CONNECT. Logins that have these passwords already keep their verifiers byte for
// byte, so that running it again disturbs nobody. A login that the other turn
// lacks is left out. conn must have the database reserved.
func OpenTurn(ctx context.Context, conn *pgx.Conn, database string, document secret.Login) error {
	turn, err := tenantdb.TurnOf(document, database)
	if err != nil {
		return err
	}
	roles, err := readRoles(ctx, conn, database)
	if err != nil {
		return err
	}
	ours, byName := map[string]bool{}, map[string]role{}
	for _, r := range roles {
		ours[r.Name], byName[r.Name] = true, r
	}
	if !ours[tenantdb.REST.UserAt(database, turn.Other())] {
		return fmt.Errorf("logins of %s: %w", database, errNoRoles)
	}
	kinds := slices.DeleteFunc(slices.Clone(allLogins[:]), func(l tenantdb.Login) bool { return !ours[l.UserAt(database, turn.Other())] })
	fresh, err := verifiersOf(database, document, kinds)
	if err != nil {
		return fmt.Errorf("logins of %s: %w", database, err)
	}
	var b strings.Builder
	var users []string
	for i, l := range kinds {
		login, err := l.From(document, database)
		if err != nil {
			return err
		}
		was, there := byName[login.User]
		twin := byName[l.UserAt(database, turn.Other())]
		twin.Name, twin.CanLogin, twin.ValidUntil, twin.Verifier = login.User, true, nil, &fresh[i]
		if was.Verifier != nil && pg.Verifies(*was.Verifier, login.Password) {
			twin.Verifier = was.Verifier
		}
		if err := writeRole(&b, twin, there); err != nil {
			return fmt.Errorf("logins of %s: %w", database, err)
		}
		for _, g := range was.Groups {
			if !slices.ContainsFunc(twin.Groups, func(of []string) bool { return of[0] == g[0] }) {
				fmt.Fprintf(&b, "REVOKE %s FROM %s;\n", pg.Ident(g[0]), pg.Ident(twin.Name))
			}
		}
		writeMemberships(&b, twin, ours, pg.Major(conn))
		if err := twinSettings(ctx, conn, &b, database, l.UserAt(database, turn.Other()), twin.Name); err != nil {
			return err
		}
		users = append(users, pg.Ident(twin.Name))
	}
	b.WriteString(connectSQL(database, strings.Join(users, ", ")))
	if err := script(ctx, conn, b.String()); err != nil {
		return fmt.Errorf("logins of %s: %w", database, err)
	}
	return nil
}

// twinSettings gives a login the settings that another has in the database.
func twinSettings(ctx context.Context, conn *pgx.Conn, b *strings.Builder, database, from, to string) error {
	settings, err := namesOf(ctx, conn, `
		SELECT pg_catalog.unnest(s.setconfig) FROM pg_catalog.pg_db_role_setting s
		JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase JOIN pg_catalog.pg_authid a ON a.oid = s.setrole
		WHERE d.datname = $1 AND a.rolname = $2`, database, from)
	if err != nil {
		return fmt.Errorf("settings of %s: %w", from, err)
	}
	prefix := "ALTER ROLE " + pg.Ident(to) + " IN DATABASE " + pg.Ident(database)
	b.WriteString(prefix + " RESET ALL;\n")
	if err := writeSettings(b, prefix, settings); err != nil {
		return fmt.Errorf("settings of %s: %w", from, err)
	}
	return nil
}

// TurnIsOpen tells whether the database's logins of the document's turn that are
// there let its passwords in. REST is always among them.
func TurnIsOpen(ctx context.Context, conn *pgx.Conn, database string, document secret.Login) (bool, error) {
	roles, err := readRoles(ctx, conn, database)
	if err != nil {
		return false, err
	}
	rest := false
	for _, l := range allLogins {
		login, err := l.From(document, database)
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(roles, func(r role) bool { return r.Name == login.User })
		if i < 0 {
			continue
		}
		if r := roles[i]; !r.CanLogin || r.Verifier == nil || !pg.Verifies(*r.Verifier, login.Password) {
			return false, nil
		}
		rest = rest || l == tenantdb.REST
	}
	return rest, nil
}

// CloseTurn has the database's logins of a turn let nobody in any more. Their
// sessions stay: see [EndTurn]. What is not there is no error.
func CloseTurn(ctx context.Context, conn *pgx.Conn, database string, turn tenantdb.Turn) error {
	there, err := existingRoles(ctx, conn, database)
	if err != nil {
		return err
	}
	if err := script(ctx, conn, closing(database, there, TurnLogins(database, turn))); err != nil {
		return fmt.Errorf("close logins of %s: %w", database, err)
	}
	return nil
}

func closing(database string, there map[string]bool, logins []string) string {
	var b strings.Builder
	for _, name := range logins {
		if there[name] {
			fmt.Fprintf(&b, "ALTER ROLE %s NOLOGIN PASSWORD NULL;\nREVOKE CONNECT ON DATABASE %s FROM %s;\n", pg.Ident(name), pg.Ident(database), pg.Ident(name))
		}
	}
	return b.String()
}

// EndTurn ends the sessions of a turn that do nothing now, or all, and returns
// how many it found. Those of a closed turn don't come back.
func EndTurn(ctx context.Context, conn *pgx.Conn, database string, turn tenantdb.Turn, all bool) (n int, err error) {
	err = conn.QueryRow(ctx, `
		SELECT count(CASE WHEN $2 OR state = 'idle' THEN pg_catalog.pg_terminate_backend(pid) ELSE false END)
		FROM pg_catalog.pg_stat_activity WHERE usename = ANY($1::text[])`, TurnLogins(database, turn), all).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("end sessions of %s: %w", database, err)
	}
	return n, nil
}

// RevokeLogins closes every login of the database at once, those of people too, which
// are dropped, and ends their sessions; it returns when none is left. [OpenTurn]
// lets a new generation in. conn is outside a transaction, to the maintenance
// database. It returns the names of the people's logins that were there.
func RevokeLogins(ctx context.Context, conn *pgx.Conn, database string) (people []string, err error) {
	if !shardmap.ValidDatabase(database) {
		return nil, fmt.Errorf("%w: database %q", shardmap.ErrInvalidID, database)
	}
	there, err := existingRoles(ctx, conn, database)
	if err != nil {
		return nil, err
	}
	var logins []string
	for _, turn := range turns {
		logins = append(logins, TurnLogins(database, turn)...)
	}
	for name := range there {
		if strings.HasPrefix(name, tempPrefix(database)) {
			people = append(people, name)
		}
	}
	slices.Sort(people)
	if err := script(ctx, conn, closing(database, there, append(logins, people...))); err != nil {
		return nil, fmt.Errorf("close logins of %s: %w", database, err)
	}
	if err := Drain(ctx, conn, database); err != nil {
		return nil, err
	}
	for _, name := range people {
		if err := dropTempLogin(ctx, conn, name, database); err != nil {
			return nil, err
		}
	}
	return people, nil
}
