// Package pgrst declares, once each, the errors of PostgREST's dialect: code,
// status and wording as its documentation has them, so that clients which
// decide on them work unchanged.
//
// Import law: of this module, pgrst imports dataplane/fault and dataplane/rest/query.
package pgrst

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/rest/query"
)

// Syntax is a query string that the grammar refuses.
func Syntax(err *query.SyntaxError) *fault.Fault {
	return fault.New(http.StatusBadRequest, "PGRST100", err.Error()).WithDetails(err.Details())
}

// InvalidBody is a body that is no JSON as it must be.
func InvalidBody(message string) *fault.Fault {
	return fault.New(http.StatusBadRequest, "PGRST102", message)
}

// InvalidRange is a range that no table could satisfy.
func InvalidRange(details string) *fault.Fault {
	return fault.New(http.StatusRequestedRangeNotSatisfiable, "PGRST103", "Requested range not satisfiable").WithDetails(details)
}

// NegativePage is a negative LIMIT or OFFSET of an embedded resource, in the
// words of Postgres.
func NegativePage(of string) *fault.Fault {
	return fault.New(http.StatusBadRequest, map[string]string{"LIMIT": "2201W", "OFFSET": "2201X"}[of], of+" must not be negative")
}

// OutOfRange is an offset beyond the last row.
func OutOfRange(offset, total int64) *fault.Fault {
	return InvalidRange(fmt.Sprintf("An offset of %d was requested, but there are only %d rows.", offset, total))
}

// UnknownSchema is a profile that is not exposed.
func UnknownSchema(schema string, exposed []string) *fault.Fault {
	return fault.New(http.StatusNotAcceptable, "PGRST106", "Invalid schema: "+schema).
		WithHint("Only the following schemas are exposed: " + strings.Join(exposed, ", "))
}

// NotAcceptable is an Accept header that nothing served matches.
func NotAcceptable(types string) *fault.Fault {
	return fault.New(http.StatusNotAcceptable, "PGRST107", "None of these media types are available: "+types)
}

// NotEmbedded is a filter, order or limit on a resource that `select` doesn't embed.
func NotEmbedded(resource string) *fault.Fault {
	return fault.New(http.StatusBadRequest, "PGRST108", fmt.Sprintf("'%s' is not an embedded resource in this request", resource)).
		WithHint(fmt.Sprintf("Verify that '%s' is included in the 'select' query parameter.", resource))
}

// NotSingular is a result of other than one row where one was asked for.
func NotSingular(rows int64) *fault.Fault {
	return fault.New(http.StatusNotAcceptable, "PGRST116", "Cannot coerce the result to a single JSON object").
		WithDetails(fmt.Sprintf("The result contains %d rows", rows))
}

// InvalidPreferences are preferences unknown under handling=strict.
func InvalidPreferences(preferences []string) *fault.Fault {
	return fault.New(http.StatusBadRequest, "PGRST122", "Invalid preferences given with handling=strict").
		WithDetails("Invalid preferences: " + strings.Join(preferences, ", "))
}

// NoAggregates is an aggregate where they are not enabled.
func NoAggregates() *fault.Fault {
	return fault.New(http.StatusBadRequest, "PGRST123", "Use of aggregate functions is not allowed")
}

// TooManyAffected is a change of more rows than max-affected allows.
func TooManyAffected(rows int64) *fault.Fault {
	return fault.New(http.StatusBadRequest, "PGRST124", "Query result exceeds max-affected preference constraint").
		WithDetails(fmt.Sprintf("The query affects %d rows", rows))
}

// MaxAffectedOfOne is max-affected for a function that returns no rows to be counted.
func MaxAffectedOfOne() *fault.Fault {
	return fault.New(http.StatusBadRequest, "PGRST128", "Function must return SETOF or TABLE when max-affected preference is used with handling=strict")
}

// AnswerTooLarge is a body of more bytes than an answer may have. Nothing was changed.
func AnswerTooLarge(bytes, most int64) *fault.Fault {
	return fault.New(http.StatusBadRequest, "answer_too_large", "The answer would be too large").
		WithDetails(fmt.Sprintf("It would have %d bytes; an answer may have up to %d.", bytes, most)).
		WithHint("Nothing was changed. Ask for fewer rows (limit, offset) or columns (select); when writing, send fewer rows or leave return=representation out.")
}

// SchemaTooLarge is a request to a database whose exposed schemas are more than a node takes in.
func SchemaTooLarge() *fault.Fault {
	return fault.New(http.StatusBadRequest, "schema_too_large", "The exposed schemas are too large").
		WithHint("Expose fewer schemas, or move what no client uses to one that is not exposed.")
}

// NoDocument is a request for the description of the API where that is switched off.
func NoDocument() *fault.Fault {
	return fault.New(http.StatusNotFound, "PGRST126", "Root endpoint metadata is disabled")
}

// NotImplemented is a part of the dialect that is not served yet.
func NotImplemented(details string) *fault.Fault {
	return fault.New(http.StatusBadRequest, "PGRST127", "Feature not implemented").WithDetails(details)
}

// UnknownBodyColumn is a key of the body, or a name in `columns`, that is no column.
func UnknownBodyColumn(relation, column string) *fault.Fault {
	return fault.New(http.StatusBadRequest, "PGRST204", fmt.Sprintf("Could not find the '%s' column of '%s' in the schema cache", column, relation))
}

// UnknownTable is a path that names no table or view; suggestion may be empty.
func UnknownTable(schema, table, suggestion string) *fault.Fault {
	f := fault.New(http.StatusNotFound, "PGRST205", fmt.Sprintf("Could not find the table '%s.%s' in the schema cache", schema, table))
	if suggestion != "" {
		f.Hint = fmt.Sprintf("Perhaps you meant the table '%s.%s'", schema, suggestion)
	}
	return f
}

// UnknownColumn is a column that does not exist, in the words of Postgres, which
// would have said so; there may be up to two suggestions.
func UnknownColumn(relation, column string, suggestions []string) *fault.Fault {
	f := fault.New(http.StatusBadRequest, "42703", fmt.Sprintf("column %s.%s does not exist", relation, column))
	for i, suggestion := range suggestions {
		f.Hint += [...]string{"Perhaps you meant to reference the column", " or the column"}[i] + fmt.Sprintf(` "%s.%s"`, relation, suggestion)
	}
	if f.Hint != "" {
		f.Hint += "."
	}
	return f
}

// UnknownType is a cast to a type that is not there for clients, in the words of Postgres.
func UnknownType(name string) *fault.Fault {
	return fault.New(http.StatusBadRequest, "42704", fmt.Sprintf(`type "%s" does not exist`, name))
}

// UnknownConflictColumn is a name in `on_conflict` that is no column, in the words of Postgres.
func UnknownConflictColumn(column string) *fault.Fault {
	return fault.New(http.StatusBadRequest, "42703", fmt.Sprintf("column %q does not exist", column))
}

// NoSuchPath is one that is of no table and no function.
func NoSuchPath() *fault.Fault {
	return fault.New(http.StatusNotFound, "PGRST125", "Invalid path specified in request URL")
}

// MethodNotAllowed is a verb that tables don't have.
func MethodNotAllowed(method string) *fault.Fault {
	return fault.New(http.StatusMethodNotAllowed, "PGRST117", "Unsupported HTTP method: "+method)
}
