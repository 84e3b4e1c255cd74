package fault

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// byState maps SQLSTATEs to HTTP as PostgREST documents it. The longest prefix
// wins; what matches nothing is 400.
var byState = map[string]int{
	"08":    http.StatusServiceUnavailable,  // connection
	"09":    http.StatusInternalServerError, // triggered action
	"0L":    http.StatusForbidden,           // invalid grantor
	"0P":    http.StatusForbidden,           // invalid role
	"21000": http.StatusInternalServerError, // cardinality, inside a function or view
	"23503": http.StatusConflict,            // foreign key
	"23505": http.StatusConflict,            // unique
	"25":    http.StatusInternalServerError, // transaction state
	"25006": http.StatusMethodNotAllowed,    // a write by GET
	"28":    http.StatusForbidden,           // authorization
	"2D":    http.StatusInternalServerError, // transaction termination
	"38":    http.StatusInternalServerError, // external routine
	"39":    http.StatusInternalServerError, // external routine invocation
	"3B":    http.StatusInternalServerError, // savepoint
	"40":    http.StatusInternalServerError, // rollback
	"42501": http.StatusForbidden,           // privilege; every request here is authenticated
	"42883": http.StatusNotFound,            // undefined function or operator
	"42P01": http.StatusNotFound,            // undefined table
	"42P17": http.StatusInternalServerError, // infinite recursion
	"53":    http.StatusServiceUnavailable,  // resources
	"53400": http.StatusInternalServerError, // configured limit
	"54":    http.StatusInternalServerError, // limits of the program
	"54011": http.StatusBadRequest,          // more columns selected than a row may have: the client wrote it
	"55":    http.StatusInternalServerError, // object state
	"57":    http.StatusInternalServerError, // operator intervention
	"57P01": http.StatusServiceUnavailable,  // the server shuts down
	"57P02": http.StatusServiceUnavailable,
	"57P03": http.StatusServiceUnavailable,
	"58":    http.StatusInternalServerError, // system
	"F0":    http.StatusInternalServerError, // configuration file
	"HV":    http.StatusInternalServerError, // foreign data wrapper
	"P0":    http.StatusInternalServerError, // PL/pgSQL
	"P0001": http.StatusBadRequest,          // RAISE
	"XX":    http.StatusInternalServerError, // bug
}

// StatusOf gives the HTTP status of a SQLSTATE. A state `PTxyz` raised by the
// tenant's own SQL asks for the status xyz.
func StatusOf(state string) int {
	if custom, ok := strings.CutPrefix(state, "PT"); ok {
		if status, err := strconv.Atoi(custom); err == nil && status >= 200 && status < 600 {
			return status
		}
		return http.StatusInternalServerError
	}
	for n := len(state); n >= 2; n-- {
		if status, ok := byState[state[:n]]; ok {
			return status
		}
	}
	return http.StatusBadRequest
}

// fromPostgres keeps the server's own words where they are about the tenant's
// schema and data, and hides them where they are about the server (file names,
// configuration, bugs).
func fromPostgres(e *pgconn.PgError) *Fault {
	switch {
	case e.Code == "PGRST":
		return fromRaised(e)
	case len(e.Code) == 5 && strings.Contains("58 F0 XX", e.Code[:2]):
		return opaque(e)
	}
	status := StatusOf(e.Code)
	switch { // where the state alone does not tell
	case e.Code == "21000" && strings.HasSuffix(e.Message, "requires a WHERE clause"): // by pg-safeupdate
		status = http.StatusBadRequest
	case e.Code == "42883" && strings.HasPrefix(e.Message, "function xmlagg("): // what was asked for cannot be XML
		status = http.StatusNotAcceptable
	case e.Code == "22023" && strings.HasPrefix(e.Message, "role") && strings.HasSuffix(e.Message, "does not exist"):
		status = http.StatusUnauthorized
	}
	return New(status, e.Code, e.Message).WithDetails(e.Detail).WithHint(e.Hint)
}

// fromRaised reads `RAISE SQLSTATE 'PGRST'`, by which SQL takes control of the
// whole answer: the message holds the body, the detail status and headers.
func fromRaised(e *pgconn.PgError) *Fault {
	var body struct {
		Code, Message, Details, Hint *string
	}
	var answer struct {
		Status  int
		Headers map[string]string
	}
	malformed := New(http.StatusInternalServerError, "PGRST121", `Could not parse JSON in the "RAISE SQLSTATE 'PGRST'" error`)
	if err := json.Unmarshal([]byte(e.Message), &body); err != nil || body.Code == nil || body.Message == nil {
		return malformed.WithDetails("Invalid JSON value for MESSAGE: '" + e.Message + "'").
			WithHint("MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and optional keys: 'details', 'hint'.")
	}
	if e.Detail == "" {
		return malformed.WithDetails("DETAIL is missing in the RAISE statement").
			WithHint("DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and optional key: 'status_text'.")
	}
	if err := json.Unmarshal([]byte(e.Detail), &answer); err != nil || answer.Headers == nil || answer.Status < 200 || answer.Status > 599 {
		return malformed.WithDetails("Invalid JSON value for DETAIL: '" + e.Detail + "'").
			WithHint("DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and optional key: 'status_text'.")
	}
	f := New(answer.Status, *body.Code, *body.Message)
	if body.Details != nil {
		f.Details = *body.Details
		if f.Details == "" {
			f.DetailsJSON = json.RawMessage(`""`)
		}
	}
	if body.Hint != nil {
		f.Hint, f.emptyHint = *body.Hint, *body.Hint == ""
	}
	f.Header = http.Header{}
	for name, value := range answer.Headers {
		if !Framing(name) {
			f.Header.Set(name, value)
		}
	}
	return f
}

// Framing tells whether a header belongs to the connection and not to SQL.
func Framing(name string) bool { return framing[http.CanonicalHeaderKey(name)] }

// framing are the headers that belong to the connection and not to SQL.
var framing = map[string]bool{
	"Connection": true, "Content-Length": true, "Keep-Alive": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}
