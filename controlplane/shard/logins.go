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
	verifiers, err := verifiersOf(database, document, logins)
	if err != nil {
		return fmt.Errorf("logins of %s: %w", database, err)
	}
	for i, l := range logins {
		lit, err := pg.Literal(verifiers[i])
		if err != nil {
			return fmt.Errorf("logins of %s: %w", database, err)
		}
		user, become := l.User(database), l.Become(database)
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
			if login.User != l.User(database) {
				return fmt.Errorf("%w: the login in use is %s", tenantdb.ErrDocument, login.User)
			}
			verifiers[i], err = pg.ScramVerifier(login.Password)
			return err
		})
	}
	return verifiers, g.Wait()
}

// LackingLogins lists the tenant databases of the server, up to limit and from
// after on, that were made before there were all of today's logins.
func LackingLogins(ctx context.Context, conn *pgx.Conn, after string, limit int) ([]string, error) {
	var suffixes []string
	for _, l := range allLogins[1:] {
		suffixes = append(suffixes, l.User(""))
	}
	rows, err := conn.Query(ctx, `
		SELECT d.datname::text FROM pg_catalog.pg_database d
		WHERE d.datname ~ '^t_[0-9a-f]{16}$' AND d.datname > $1
		  AND EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = d.datname || $2)
		  AND EXISTS (SELECT FROM pg_catalog.unnest($3::text[]) l(suffix)
		    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = d.datname || l.suffix))
		ORDER BY d.datname LIMIT $4`, after, AuthLogin(""), suffixes, limit)
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
	there, err := existingRoles(ctx, conn, database)
	if err != nil {
		return err
	}
	if !there[AuthLogin(database)] {
		return fmt.Errorf("logins of %s: %w", database, errNoRoles)
	}
	var missing []tenantdb.Login
	var users []string
	for _, l := range allLogins {
		if !there[l.User(database)] {
			missing, users = append(missing, l), append(users, pg.Ident(l.User(database)))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	var b strings.Builder
	if err := defineLogins(&b, there, database, document, limits, missing); err != nil {
		return err
	}
	fmt.Fprintf(&b, "GRANT CONNECT ON DATABASE %s TO %s;\n", pg.Ident(database), strings.Join(users, ", "))
	b.WriteString(limitsScript(database, limits, missing))
	if err := script(ctx, conn, b.String()); err != nil {
		return fmt.Errorf("logins of %s: %w", database, err)
	}
	return nil
}

var errNoRoles = errors.New("the server does not have the database's roles")
