package sqlhttp

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/dataplane/fault"
)

// malformed refuses a request that is not in the driver's format.
func malformed(message string) *fault.Fault {
	return fault.New(http.StatusBadRequest, "invalid_request", message)
}

// plainly is what is wrong with a text, without the name of the Go library that found it.
func plainly(err error) string {
	text := err.Error()
	for _, prefix := range []string{"json: ", "jsontext: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return text
}

// sqlError is Postgres' refusal as the driver reads it, at status 400.
type sqlError struct {
	Message          string  `json:"message"`
	Code             string  `json:"code"`
	Severity         string  `json:"severity"`
	Detail           *string `json:"detail"`
	Hint             *string `json:"hint"`
	Position         *string `json:"position"`
	InternalPosition *string `json:"internalPosition"`
	InternalQuery    *string `json:"internalQuery"`
	Where            *string `json:"where"`
	Schema           *string `json:"schema"`
	Table            *string `json:"table"`
	Column           *string `json:"column"`
	DataType         *string `json:"dataType"`
	Constraint       *string `json:"constraint"`
	File             *string `json:"file"`
	Line             *string `json:"line"`
	Routine          *string `json:"routine"`
}

// refuse answers with err. Whatever Postgres says of a statement is the
// client's to deal with, and has status 400, as the driver wants it.
func refuse(c *gin.Context, err error) {
	var e *pgconn.PgError
	f := fault.From(err)
	switch {
	case f.Status == http.StatusBadRequest && (!errors.As(err, &e) || f.Code != e.Code): // ours
		e = &pgconn.PgError{Message: f.Message, Code: f.Code, Severity: "ERROR", Detail: f.Details, Hint: f.Hint}
	case e == nil && !errors.As(err, &e), f.Code != e.Code && e.Code != raised:
		fault.Write(c, f) // the gateway's or router's, or about the server itself
		return
	}
	hint := e.Hint
	if hint == "" {
		hint = hints[e.Code]
	}
	body, merr := json.Marshal(sqlError{
		Message: e.Message, Code: e.Code, Severity: e.Severity, Detail: text(e.Detail), Hint: text(hint),
		Position: number(e.Position), InternalPosition: number(e.InternalPosition), InternalQuery: text(e.InternalQuery),
		Where: text(e.Where), Schema: text(e.SchemaName), Table: text(e.TableName), Column: text(e.ColumnName),
		DataType: text(e.DataTypeName), Constraint: text(e.ConstraintName),
		File: text(e.File), Line: number(e.Line), Routine: text(e.Routine),
	}, jsontext.AllowInvalidUTF8(true))
	if merr != nil {
		fault.Write(c, merr)
		return
	}
	c.Header("Cache-Control", "no-store")
	c.Data(http.StatusBadRequest, "application/json", body)
	c.Abort()
}

// raised is the state of an error that makes REST's answer: here it is one as any other, and has no say
// in status and headers, which would be taken for the driver's.
const raised = "PGRST"

// hints are for refusals that follow from how requests are run.
var hints = map[string]string{
	"25001": "A request is one transaction, in which this can't run. Use psql (tenant-ops tenant psql).",
	"2D000": "A request is one transaction, and procedures in it can't end it.",
	"57014": "A statement's time is limited; an index may help.",
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func number(n int32) *string {
	if n == 0 {
		return nil
	}
	return text(strconv.Itoa(int(n)))
}
