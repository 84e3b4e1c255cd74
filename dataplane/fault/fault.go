// Package fault is the border of the data plane: the one place where errors
// become HTTP. Inside, errors are typed and say what happened; here they get a
// status, a stable code, and a text for the one who reads it. An error that
// nobody foresaw becomes an opaque 500 with an ID under which the log has it.
//
// Import law: of this module, fault imports router and internal packages only.
package fault

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/router"
)

// StatusClientClosedRequest is what the log shows for a client that went away
// before its answer; no client ever reads it.
const StatusClientClosedRequest = 499

// Fault is an error as a client sees it. It renders itself in PostgREST's
// shape; an empty Details or Hint is null there.
type Fault struct {
	Status  int
	Code    string // stable: what programs decide on
	Message string
	Details string
	// DetailsJSON takes the place of Details where those are more than a text.
	DetailsJSON json.RawMessage
	Hint        string // what to do next
	// RetryAfter, when positive, becomes the Retry-After header in whole seconds, rounded up.
	RetryAfter time.Duration
	// Header is added to the answer.
	Header http.Header
	// ID names the log record of an opaque fault; empty otherwise.
	ID string

	cause     error
	emptyHint bool // a hint without words, where SQL gave one
}

// New makes a fault without details and hint.
func New(status int, code, message string) *Fault {
	return &Fault{Status: status, Code: code, Message: message}
}

// WithDetails sets what is known beyond the message and returns f.
func (f *Fault) WithDetails(details string) *Fault { f.Details = details; return f }

// WithHint sets what to do next and returns f.
func (f *Fault) WithHint(hint string) *Fault { f.Hint = hint; return f }

// WithCause keeps, for the log alone, the error that f stands for, and returns f.
func (f *Fault) WithCause(err error) *Fault { f.cause = err; return f }

// Error is for the log: the code, the message, and the cause when it is kept.
func (f *Fault) Error() string {
	text := f.Code + ": " + f.Message
	if f.cause != nil {
		text += ": " + f.cause.Error()
	}
	return text
}

// Unwrap gives the error that f stands for, or nil.
func (f *Fault) Unwrap() error { return f.cause }

// MarshalJSON renders PostgREST's shape.
func (f *Fault) MarshalJSON() ([]byte, error) {
	details := any(orNull(f.Details))
	if f.DetailsJSON != nil {
		details = f.DetailsJSON
	}
	hint := orNull(f.Hint)
	if f.emptyHint {
		hint = &f.Hint
	}
	return plainJSON(struct {
		Code    string  `json:"code"`
		Details any     `json:"details"`
		Hint    *string `json:"hint"`
		Message string  `json:"message"`
	}{f.Code, details, hint, f.Message})
}

// plainJSON encodes v without the escapes that only HTML needs: operators are
// part of what is said.
func plainJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), err
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// From translates err. It never returns nil and is the identity on a Fault.
func From(err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	if f := fromRouter(err); f != nil {
		return f.WithCause(err)
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return New(http.StatusRequestEntityTooLarge, "body_too_large", "The request's body is too large").
			WithDetails("A body may have up to " + strconv.FormatInt(tooLarge.Limit, 10) + " bytes.").
			WithHint("Send the rows in several requests.")
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return fromPostgres(refused).WithCause(err)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return New(StatusClientClosedRequest, "canceled", "The request was canceled").WithCause(err)
	case errors.Is(err, context.DeadlineExceeded):
		return New(http.StatusGatewayTimeout, "timeout", "The request took longer than it may").
			WithHint("Ask for less, or add an index that serves the filter.").WithCause(err)
	}
	return opaque(err)
}

// fromRouter translates what the router decided, or returns nil. A lost write
// goes first: it may wrap any of the others, and it alone must not be repeated.
func fromRouter(err error) *Fault {
	switch {
	case errors.Is(err, router.ErrOutcomeUnknown):
		return New(http.StatusServiceUnavailable, "outcome_unknown", "The connection broke while the write was under way: it may or may not have been committed").
			WithHint("Read the data before sending the write again; do not repeat it blindly.")
	case errors.Is(err, router.ErrUnknownTenant):
		return New(http.StatusNotFound, "unknown_tenant", "There is no such tenant").
			WithHint("Check the tenant in the token.")
	case errors.Is(err, router.ErrDeleted):
		return New(http.StatusGone, "tenant_deleted", "The tenant is deleted").
			WithHint("An operator can restore it within its grace period.")
	case errors.Is(err, router.ErrSuspended):
		return New(http.StatusForbidden, "tenant_suspended", "The tenant is suspended").
			WithHint("Ask an operator to resume it.")
	case errors.Is(err, router.ErrBusy):
		return retryable(http.StatusTooManyRequests, "too_many_requests", "Too many requests of the tenant are under way", time.Second)
	case errors.Is(err, router.ErrHoldExpired):
		return retryable(http.StatusServiceUnavailable, "tenant_moving", "The tenant is being moved and did not come back in time", time.Second)
	case errors.Is(err, router.ErrUnresolved):
		return retryable(http.StatusServiceUnavailable, "placement_unavailable", "Where the tenant lives cannot be looked up now", 2*time.Second)
	case errors.Is(err, router.ErrClosed):
		return retryable(http.StatusServiceUnavailable, "node_stopping", "This node is stopping", time.Second)
	case errors.Is(err, router.ErrTooLarge):
		return New(http.StatusBadRequest, "answer_too_large", "The answer would be too large").
			WithHint("Ask for fewer rows (limit, offset) or columns (select).")
	case errors.Is(err, router.ErrNoLogin): // a database of an older version; the control plane adds its logins
		return retryable(http.StatusServiceUnavailable, "login_missing", "The tenant's database has no login for this role yet", 30*time.Second)
	case errors.Is(err, secret.ErrUnavailable): // beside ErrUnreachable
		return retryable(http.StatusServiceUnavailable, "login_unavailable", "The login to the tenant's database cannot be looked up now", 2*time.Second)
	case errors.Is(err, router.ErrUnreachable):
		return retryable(http.StatusServiceUnavailable, "database_unreachable", "The tenant's database cannot be reached now", 2*time.Second)
	}
	return nil
}

// retryable is for refusals before anything was executed.
func retryable(status int, code, message string, after time.Duration) *Fault {
	f := New(status, code, message).WithHint("Nothing was executed: try again.")
	f.RetryAfter = after
	return f
}

// opaque hides err behind an ID.
func opaque(err error) *Fault {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails: the runtime ends the process first
	f := New(http.StatusInternalServerError, "internal", "Something failed that should not have")
	f.ID = hex.EncodeToString(id[:])
	return f.WithHint("Try again; if it stays, report the error ID " + f.ID + ".").WithCause(err)
}
