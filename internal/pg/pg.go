// Package pg holds the few things that every package talking to Postgres
// needs: quoting, SQLSTATEs, and connecting without leaking a password.
//
// Values travel as parameters. [Ident] is for names, which can't; [Literal]
// only for utility statements that take no parameters.
package pg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/internal/secret"
)

// Ident quotes one identifier (a database, role, column …) for use in SQL text.
// A qualified name is Ident(schema) + "." + Ident(name).
func Ident(name string) string { return pgx.Identifier{name}.Sanitize() }

// ErrNUL refuses a text that Postgres cannot hold.
var ErrNUL = errors.New("text contains a NUL byte")

// Literal quotes a string for utility statements that take no parameters
// (ALTER ROLE … PASSWORD, CREATE SUBSCRIPTION … CONNECTION). It is correct
// whatever standard_conforming_strings says: a text with a backslash becomes an
// E” literal. It refuses a NUL byte with [ErrNUL] and text that is not UTF-8.
func Literal(s string) (string, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return "", ErrNUL
	}
	// A stray byte could swallow the closing quote in a multi-byte encoding.
	if strings.ToValidUTF8(s, "") != s {
		return "", errors.New("text is not valid UTF-8")
	}
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`), nil
	}
	return quoted, nil
}

// Code returns the SQLSTATE of err, or "" when err is no answer of a server.
func Code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// ConnectTimeout bounds one attempt of [Connect], above what ctx says.
const ConnectTimeout = 10 * time.Second

// ApplicationName is what connections say of themselves. PgBouncer keeps it the
// same on both of its sides, by a round trip of its own where it is not: who
// resets a session gives it back.
const ApplicationName = "freehold"

// base is a config with nothing of the environment in it. ParseConfig is the
// only way to make one, and an explicit value of every setting keeps the
// environment out of it.
var base = sync.OnceValues(func() (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig("host=/nowhere port=1 user=nobody password=none dbname=nothing sslmode=disable " +
		"sslnegotiation=postgres sslcertmode=allow channel_binding=prefer connect_timeout=10 passfile=/nonexistent target_session_attrs=any min_protocol_version=3.0 max_protocol_version=3.0")
	if err != nil {
		return nil, fmt.Errorf("postgres config: %w", err)
	}
	c.RuntimeParams = map[string]string{"application_name": ApplicationName}
	c.Fallbacks = nil
	c.ConnectTimeout = ConnectTimeout
	c.DialFunc = (&net.Dialer{Timeout: ConnectTimeout, KeepAlive: 30 * time.Second}).DialContext
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	return c, nil
})

// Config describes a connection to host (a name, an address, or a directory of
// a unix socket), in plain text; [Channel.Config] is for servers elsewhere.
// What it is never depends on PG* variables or a password file. Statements run
// unprepared, so that the connection may go through a PgBouncer in transaction
// pooling; set DefaultQueryExecMode for another way.
func Config(host string, port uint16, database string, login secret.Login) (*pgx.ConnConfig, error) {
	b, err := base()
	if err != nil {
		return nil, err
	}
	c := b.Copy()
	c.Host, c.Port, c.Database = host, port, database
	c.User, c.Password = login.User, login.Password
	return c, nil
}

// Connect opens a connection as [Config] describes it, within ctx and
// [ConnectTimeout]. Its error names host, database and user, never the
// password, and holds no config that could be printed.
func Connect(ctx context.Context, host string, port uint16, database string, login secret.Login) (*pgx.Conn, error) {
	c, err := Config(host, port, database, login)
	if err != nil {
		return nil, err
	}
	return connect(ctx, c)
}

func connect(ctx context.Context, c *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connect to database %s at %s:%d as %s: %w", c.Database, c.Host, c.Port, c.User, ConnectCause(err))
	}
	return conn, nil
}

// ConnectCause strips the driver's wrapper, which carries the whole config,
// password included, off a failed connection attempt.
func ConnectCause(err error) error {
	var wrapper *pgconn.ConnectError
	if errors.As(err, &wrapper) {
		return wrapper.Unwrap()
	}
	return err
}

// Major is the major version of the server at the other end of conn: 15, 16, …;
// 0 if it did not say (a PgBouncer's console).
func Major(conn *pgx.Conn) int {
	version := conn.PgConn().ParameterStatus("server_version") // "18.4", "15.18 (Debian …)", "19beta1"
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(version)
	}
	n, err := strconv.Atoi(version[:end])
	if err != nil {
		return 0
	}
	return n
}
