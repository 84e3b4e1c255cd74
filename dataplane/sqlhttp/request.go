package sqlhttp

import (
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/intake"
)

// request is what is to be run, and how the answer shall look.
type request struct {
	statements []statement
	batch      bool // the answer has a list of results, if of one
	isolation  string
	readOnly   bool
	deferrable bool
	rawText    bool // values as Postgres writes them; else as JSON's types where it has them
	arrays     bool // rows as arrays; else as objects
	headers    []byte
}

// statement is one SQL statement and its parameters as text; nil is NULL.
type statement struct {
	sql    string
	params [][]byte
	arrays *bool // of this one; nil: as the request says
}

// maxParams is what a Bind message can count.
const maxParams = 65535

type queryBody struct {
	Query     *string          `json:"query"`
	Params    []jsontext.Value `json:"params"`
	ArrayMode *bool            `json:"arrayMode"`
}

type body struct {
	queryBody `json:",inline"`
	Queries   *[]queryBody `json:"queries"`
}

func (h *Handler) read(r *http.Request, id Identity) (*request, error) {
	req := &request{
		rawText: r.Header.Get("Neon-Raw-Text-Output") == "true",
		arrays:  r.Header.Get("Neon-Array-Mode") == "true",
		headers: intake.Headers(r.Header),
	}
	if err := h.agree(r.Header["Neon-Connection-String"], id); err != nil {
		return nil, err
	}
	text, err := intake.Bytes(nil, r, math.MaxInt64) // the gateway's to bound
	if err != nil {
		return nil, err
	}
	var b body
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, malformed("The body is not what it should be: " + strings.TrimPrefix(plainly(err), "json: "))
	}
	switch {
	case (b.Query == nil) == (b.Queries == nil):
		return nil, malformed("The body has neither query nor queries, or both")
	case b.Query != nil:
		s, err := b.statement()
		if err != nil {
			return nil, err
		}
		req.statements = []statement{s}
		return req, nil
	}
	req.batch = true
	if n := len(*b.Queries); n > h.opts.MaxBatch {
		return nil, malformed(fmt.Sprintf("The batch has %d statements, %d are allowed", n, h.opts.MaxBatch))
	}
	for i := range *b.Queries {
		s, err := (*b.Queries)[i].statement()
		if err != nil {
			return nil, err
		}
		req.statements = append(req.statements, s)
	}
	return req, req.transaction(r.Header)
}

func (q *queryBody) statement() (statement, error) {
	if q.Query == nil {
		return statement{}, malformed("A statement of the batch has no query")
	}
	s := statement{sql: *q.Query, arrays: q.ArrayMode}
	if strings.IndexByte(s.sql, 0) >= 0 {
		return s, malformed("The query has a NUL byte")
	}
	if len(q.Params) > maxParams {
		return s, malformed(fmt.Sprintf("The query has %d parameters, %d are allowed", len(q.Params), maxParams))
	}
	s.params = make([][]byte, len(q.Params))
	for i, p := range q.Params {
		value, err := parameter(p)
		if err != nil {
			return s, malformed(fmt.Sprintf("Parameter $%d: %s", i+1, plainly(err)))
		}
		s.params[i] = value
	}
	return s, nil
}

// isolations are the levels in the driver's words.
var isolations = map[string]string{
	"": "", "ReadUncommitted": "READ UNCOMMITTED", "ReadCommitted": "READ COMMITTED",
	"RepeatableRead": "REPEATABLE READ", "Serializable": "SERIALIZABLE",
}

// transaction reads the options that a batch may have.
func (req *request) transaction(header http.Header) error {
	var ok bool
	if req.isolation, ok = isolations[header.Get("Neon-Batch-Isolation-Level")]; !ok {
		return malformed("Neon-Batch-Isolation-Level is none of ReadUncommitted, ReadCommitted, RepeatableRead, Serializable")
	}
	for name, flag := range map[string]*bool{"Neon-Batch-Read-Only": &req.readOnly, "Neon-Batch-Deferrable": &req.deferrable} {
		switch header.Get(name) {
		case "", "false":
		case "true":
			*flag = true
		default:
			return malformed(name + " is neither true nor false")
		}
	}
	return nil
}

// echo tells a batch's client what its transaction was, as Neon does.
func (req *request) echo(asked, answered http.Header) {
	if !req.batch {
		return
	}
	for _, name := range []string{"Neon-Batch-Isolation-Level", "Neon-Batch-Read-Only", "Neon-Batch-Deferrable"} {
		if value := asked.Get(name); value != "" && value != "false" {
			answered.Set(name, value)
		}
	}
}

// begin is the statement that opens the transaction.
func (req *request) begin() string {
	sql := "BEGIN"
	if req.isolation != "" {
		sql += " ISOLATION LEVEL " + req.isolation
	}
	if req.readOnly {
		sql += " READ ONLY"
	} else {
		sql += " READ WRITE" // whatever the login's default is
	}
	if req.deferrable {
		sql += " DEFERRABLE"
	}
	return sql
}

// neutral are names of databases in connection strings that mean no tenant's.
var neutral = map[string]bool{"": true, "postgres": true, "neondb": true, "freehold": true, "main": true, "app": true, "db": true}

const misnamed = "The connection string names another tenant than the credential's"

// crossing is why a request was refused that named another tenant.
type crossing struct{ named string }

func (c *crossing) Error() string { return "names another tenant" }

// agree refuses a connection string that names another tenant than the
// credential's: it has no say in where a request goes, but who wrote it means
// something by it. What it holds is in no error.
func (h *Handler) agree(headers []string, id Identity) error {
	if len(headers) == 0 {
		return nil
	}
	disagrees := func(named string) error {
		return fault.New(http.StatusForbidden, "tenant_mismatch", misnamed).WithHint("Make its database the tenant's ID, or main.").WithCause(&crossing{named})
	}
	u, err := url.Parse(headers[0])
	if err != nil || len(headers) > 1 || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return malformed("Neon-Connection-String is not a connection string such as postgresql://user@host/database")
	}
	if name := strings.Trim(u.Path, "/"); !neutral[name] && name != string(id.Tenant) {
		return disagrees(name)
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if label, ok := strings.CutSuffix(host, "."+h.opts.Domain); ok && h.opts.Domain != "" && net.ParseIP(host) == nil && label != string(id.Tenant) {
		return disagrees(label)
	}
	return nil
}
