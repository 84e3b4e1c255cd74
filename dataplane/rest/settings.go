package rest

import (
	"strconv"
	"strings"

	"github.com/freehold-db/freehold/dataplane/intake"
	"github.com/freehold-db/freehold/internal/schemachange"
	"github.com/freehold-db/freehold/internal/tenantdb"
)

// The settings of a request's transaction. They all end with it, so that the
// next user of a pooled connection sees none of them.
//
// First of all the database checks that its schema is the one that the request
// was planned with: if not, nothing of the request is executed.

// prologue says which settings a request has.
type prologue struct {
	stamped bool // the schema has a stamp to be checked
	plain   bool // none of the tenant's SQL runs, so that nobody could see more than the role
	zoned   bool // a time zone is preferred
	reads   bool // the transaction may not write
	timed   bool // the plan bounds a statement's time
}

func (p prologue) index() (i int) {
	for bit, set := range []bool{p.stamped, p.plain, p.zoned, p.reads, p.timed} {
		if set {
			i |= 1 << bit
		}
	}
	return i
}

var prologues = func() (sql [32]string) {
	for i := range sql {
		p := prologue{stamped: i&1 != 0, plain: i&2 != 0, zoned: i&4 != 0, reads: i&8 != 0, timed: i&16 != 0}
		sql[i] = p.sql()
	}
	return sql
}()

// sql is the statement; its parameters are the stamp, the settings in this order, the time zone, the statement's time.
func (p prologue) sql() string {
	names := []string{"role"}
	if !p.plain {
		names = []string{"search_path", "role", "request.jwt.claims", "request.method", "request.path", "request.headers"}
	}
	if p.zoned {
		names = append(names, "timezone")
	}
	if p.timed {
		names = append(names, "statement_timeout")
	}
	var calls []string
	if p.stamped {
		calls = append(calls, schemachange.Expect)
	}
	first := len(calls) + 1
	for i, name := range names {
		calls = append(calls, "pg_catalog.set_config('"+name+"', $"+strconv.Itoa(first+i)+", true)")
	}
	if !p.plain {
		calls = append(calls, "pg_catalog.pg_advisory_unlock_all()")
	}
	if p.reads && !p.plain {
		calls = append(calls, "pg_catalog.set_config('transaction_read_only', 'on', true)")
	}
	return "SELECT " + strings.Join(calls, ", ")
}

var noClaims = []byte("{}")

// settings is the statement that makes a session the request's, and its parameters.
func (h *Handler) settings(database string, id Identity, req *request, p prologue, stamp []byte) (string, [][]byte) {
	role, _ := tenantdb.ForREST(database, id.Role)
	params := make([][]byte, 0, 9)
	if p.stamped {
		params = append(params, stamp)
	}
	if p.plain {
		params = append(params, []byte(role))
	} else {
		claims := noClaims
		if id.Claims != "" {
			claims = []byte(id.Claims)
		}
		searchPath := req.exposed.searchPath[req.profile]
		if req.document != nil { // names types with their schemas
			searchPath = []byte{}
		}
		params = append(params, searchPath, []byte(role), claims, []byte(req.method), []byte("/"+req.path), intake.Headers(req.header))
	}
	if p.zoned = req.prefer.timezone != ""; p.zoned {
		params = append(params, []byte(req.prefer.timezone))
	}
	if p.timed = id.Limits.StatementFor > 0; p.timed { // in milliseconds; 0 would be no bound
		params = append(params, strconv.AppendInt(nil, max(1, id.Limits.StatementFor.Milliseconds()), 10))
	}
	return prologues[p.index()], params
}
