package router

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// What a client sees, observed on PostgreSQL 15 behind PgBouncer 1.18 in
// transaction pooling (TestWhatAClientSees keeps the table true):
//
//	what happened to the old place            what the client of PgBouncer gets              executed?
//	fenced (CONNECTION LIMIT 0), a server      served: the fence stops logins only            yes
//	  connection still open
//	fenced, server connections terminated      FATAL 08P01 query_wait_timeout, after it       no
//	  … once a login has failed                FATAL 08P01 server login has been failing …    no
//	database dropped or renamed                as fenced; a new client waits in its login     no
//	PgBouncer's database paused                waits; served at RESUME, wherever the entry    no
//	                                           leads by then, else query_wait_timeout
//	entry repointed, client idle               served at the new place                        there
//	entry removed, or KILL, client idle        FATAL 08P01 database removed, unasked          no
//	the same with a statement under way        FATAL 08P01 database removed                   perhaps
//	backend terminated while idle              served: PgBouncer takes another one            yes
//	… and PgBouncer does not know it yet       FATAL 57P01 terminating connection …, first    no
//	backend terminated with a statement        FATAL 57P01 terminating connection …, after    perhaps
//	                                           the answer to the first Parse
//	PgBouncer killed, client idle              end of file, unasked                           no
//	PgBouncer killed with a statement          end of file                                    perhaps
//	login: unknown user, wrong password        FATAL 08P01 no such user, SASL authentication  no
//	                                           failed (newer PgBouncers: 28P01)
//
// PgBouncer has one SQLSTATE (08P01) for all of its own refusals, so its words
// have to decide. Two of them are said only to a client that has no server
// connection, while none of its transaction's bytes have gone to any: those,
// and nothing else, prove that a write was not executed. Newer PgBouncers pass
// Postgres' own refusal of a login on; as FATAL, Postgres says those codes only
// before a session exists. A session's end at an administrator's command is
// proof only where it comes in place of the first ParseComplete: Postgres
// answers in order, so that nothing after that Parse was looked at.

// verdict is what an attempt's end means for the request.
type verdict int

const (
	// settled: the answer stands, be it an error.
	settled verdict = iota
	// held: a hold began before the request did.
	held
	// unsent: the connection was gone before anything was sent. Try another at once.
	unsent
	// refused: turned away before execution. Look again where the tenant lives.
	refused
	// lost: the connection broke under a request that does no harm twice.
	lost
)

// judge decides what the end of an attempt on an open connection means. The
// error it returns is what the caller sees if the request ends here.
func judge(ctx context.Context, err error, c *conn, access Access) (verdict, error) {
	switch {
	case err == nil:
		return settled, nil
	case !c.PG.IsClosed():
		return settled, err // an intact session: the error is the statement's, or the function's own
	case ctx.Err() != nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		if access == ReadWrite && c.wire.asked.Load() != 0 {
			return settled, fmt.Errorf("%w: %w", ErrOutcomeUnknown, errors.Join(ctx.Err(), err))
		}
		return settled, err // the request's own time ran out: nobody waits for another try
	case c.wire.asked.Load() == 0:
		return unsent, err
	case access == ReadOnly && tooLarge(err):
		return settled, fmt.Errorf("%w: %w", ErrTooLarge, err)
	case c.wire.answered.Load() == 'E' && turnedAway(err, c.wire.asked.Load() == 'P'):
		return refused, err
	case access == ReadOnly:
		return lost, err
	default:
		return settled, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
}

// tooLarge tells whether the driver gave a connection up for the size of what came.
func tooLarge(err error) bool {
	var e *pgproto3.ExceededMaxBodyLenErr
	return errors.As(err, &e)
}

// turnedAway tells whether the first thing that a server said, err, proves that
// it did not take the transaction on. parse: the first thing asked was a Parse.
func turnedAway(err error, parse bool) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) || severity(e) != "FATAL" {
		return false
	}
	switch e.Code {
	case pgerrcode.ProtocolViolation: // PgBouncer itself
		return e.Message == "query_wait_timeout" || strings.HasPrefix(e.Message, "server login has been failing")
	case pgerrcode.TooManyConnections, // the fence
		pgerrcode.InvalidCatalogName,    // the database is gone
		pgerrcode.InvalidPassword,       // the login changed,
		pgerrcode.InsufficientPrivilege, // or may not connect
		pgerrcode.InvalidAuthorizationSpecification,
		pgerrcode.CannotConnectNow: // starting up or shutting down
		return true
	case pgerrcode.AdminShutdown:
		return parse && e.File != "" // Postgres names its source; PgBouncer, which may cut in, has none
	}
	return false
}

// severity prefers the field that no server setting translates.
func severity(e *pgconn.PgError) string {
	if e.SeverityUnlocalized != "" {
		return e.SeverityUnlocalized
	}
	return e.Severity
}

// unwelcome tells whether a server refused a login for itself: there is none of
// that name, or it has another password. PgBouncer's words differ by version.
func unwelcome(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	return e.Code == pgerrcode.InvalidPassword || e.Code == pgerrcode.InvalidAuthorizationSpecification ||
		e.Code == pgerrcode.ProtocolViolation && (strings.HasPrefix(e.Message, "no such user") || strings.Contains(e.Message, "authentication failed"))
}
