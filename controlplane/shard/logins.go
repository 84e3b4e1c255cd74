package shard

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
)

var allLogins = [tenantdb.Logins]tenantdb.Login{tenantdb.REST, tenantdb.Owner, tenantdb.SQLWrite, tenantdb.SQLRead}

// defineLogins writes what makes these logins, or brings them to the verifiers
// of the database's secret. No password is in it.
func defineLogins(b *strings.Builder, there map[string]bool, database string, document secret.Login, limits Limits, logins []tenantdb.Login) error {
	turn, err := tenantdb.TurnOf(document, database)
	if err != nil {
		return fmt.Errorf("logins of %s: %w", database, err)
	}
	verifiers, err := verifiersOf(database, document, logins)
	if err != nil {
		return fmt.Errorf("logins of %s: %w", database, err)
	}
	for i, l := range logins {
		lit, err := pg.Literal(verifiers[i])
		if err != nil {
			return fmt.Errorf("logins of %s: %w", database, err)
		}
		user, become := l.UserAt(database, turn), l.Become(database)
		define(b, there, user, fmt.Sprintf("LOGIN NOINHERIT CONNECTION LIMIT %d PASSWORD %s", connections(limits.Connections), lit))
		groups := pg.Ident(AnchorRole(database))
		for _, role := range become {
			groups += ", " + pg.Ident(role)
		}
		fmt.Fprintf(b, "GRANT %s TO %s;\n", groups, pg.Ident(user))
		if l != tenantdb.REST { // works as its one role from the start, so that what it makes belongs to that
			fmt.Fprintf(b, "ALTER ROLE %s SET role = %s;\n", pg.Ident(user), pg.Ident(become[0]))
		}
		if l == tenantdb.SQLRead { // so that errors come early; what keeps it from writing is its role
			fmt.Fprintf(b, "ALTER ROLE %s SET default_transaction_read_only = on;\n", pg.Ident(user))
		}
	}
	return nil
}

// verifiersOf derives what Postgres stores for the logins' passwords, side by
// side: each takes thousands of hashes.
func verifiersOf(database string, document secret.Login, logins []tenantdb.Login) ([]string, error) {
	verifiers := make([]string, len(logins))
	var g errgroup.Group
	for i, l := range logins {
		g.Go(func() error {
			login, err := l.From(document, database)
			if err != nil {
				return err
			}
			verifiers[i], err = pg.ScramVerifier(login.Password)
			return err
		})
	}
	return verifiers, g.Wait()
}

// LackingLogins lists the tenant databases of the server, up to limit and from
// after on, that were made before there were all of today's logins: those with a
// turn in use that is not whole.
func LackingLogins(ctx context.Context, conn *pgx.Conn, after string, limit int) ([]string, error) {
	var rest, other []string
	for _, turn := range turns {
		for _, l := range allLogins[1:] {
			rest, other = append(rest, tenantdb.REST.UserAt("", turn)), append(other, l.UserAt("", turn))
		}
	}
	rows, err := conn.Query(ctx, `
		SELECT d.datname::text FROM pg_catalog.pg_database d
		WHERE d.datname ~ '^t_[0-9a-f]{16}$' AND d.datname > $1
		  AND EXISTS (SELECT FROM unnest($2::text[], $3::text[]) l(rest, other)
		    JOIN pg_catalog.pg_roles r ON r.rolname = d.datname || l.rest AND r.rolcanlogin
		    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = d.datname || l.other))
		ORDER BY d.datname LIMIT $4`, after, rest, other, limit)
	if err != nil {
		return nil, fmt.Errorf("databases without all logins: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("databases without all logins: %w", err)
	}
	return names, nil
}

// AddLogins gives a database the logins that it lacks, with their timeouts and
// CONNECT, in one transaction; those that are there stay as they are. conn must
// have the database reserved, so that nobody moves or drops it meanwhile.
func AddLogins(ctx context.Context, conn *pgx.Conn, database string, document secret.Login, limits Limits) error {
	turn, err := tenantdb.TurnOf(document, database)
	if err != nil {
		return fmt.Errorf("logins of %s: %w", database, err)
	}
	there, err := existingRoles(ctx, conn, database)
	if err != nil {
		return err
	}
	if !there[tenantdb.REST.UserAt(database, turn)] {
		return fmt.Errorf("logins of %s: %w", database, errNoRoles)
	}
	var missing []tenantdb.Login
	var users []string
	for _, l := range allLogins {
		if user := l.UserAt(database, turn); !there[user] {
			missing, users = append(missing, l), append(users, pg.Ident(user))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	var b strings.Builder
	if err := defineLogins(&b, there, database, document, limits, missing); err != nil {
		return err
	}
	b.WriteString(connectSQL(database, strings.Join(users, ", ")))
	b.WriteString(limitsScript(database, turn, limits, missing))
	if err := script(ctx, conn, b.String()); err != nil {
		return fmt.Errorf("logins of %s: %w", database, err)
	}
	return nil
}

var errNoRoles = errors.New("the server does not have the database's roles")
