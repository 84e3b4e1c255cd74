package pgrst

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// Signature renders a function for a message: `s.f(a => integer)`.
func Signature(f *schema.Function) string {
	args := make([]string, len(f.Args))
	for i, a := range f.Args {
		args[i] = a.Name + " => " + a.Type
	}
	return f.Schema + "." + Columns(f.Name.Name, args)
}

// UnknownFunction is a call that no function takes. RawType is the type of a
// body that is one value of it, and json tells that it could be one of JSON; signature, which may be empty, is of one that is near.
func UnknownFunction(schema, name string, keys []string, rawType string, json bool, signature string) *fault.Fault {
	qualified := schema + "." + name
	called, with := Columns(qualified, keys), "with parameters "+strings.Join(keys, ", ")
	switch len(keys) {
	case 0:
		called, with = qualified+" without parameters", "without parameters"
	case 1:
		with = "with parameter " + keys[0]
	}
	switch {
	case rawType != "":
		called, with = qualified, "with a single unnamed "+rawType+" parameter"
	case json:
		with += " or with a single unnamed json/jsonb parameter"
	}
	f := fault.New(http.StatusNotFound, "PGRST202", fmt.Sprintf("Could not find the function %s in the schema cache", called)).
		WithDetails(fmt.Sprintf("Searched for the function %s %s, but no matches were found in the schema cache.", qualified, with))
	if signature != "" {
		f.Hint = "Perhaps you meant to call the function " + signature
	}
	return f
}

// AmbiguousFunction is a call that several functions take.
func AmbiguousFunction(signatures []string) *fault.Fault {
	return fault.New(http.StatusMultipleChoices, "PGRST203", "Could not choose the best candidate function between: "+strings.Join(signatures, ", ")).
		WithHint("Try renaming the parameters or the function itself in the database so function overloading can be resolved")
}

// MethodNotOfFunctions is a verb that functions don't have.
func MethodNotOfFunctions(method string) *fault.Fault {
	return fault.New(http.StatusMethodNotAllowed, "PGRST101", fmt.Sprintf("Cannot use the %s method on RPC", method))
}

// InvalidResponseHeaders is a response.headers that the tenant's SQL set to no list of headers.
func InvalidResponseHeaders() *fault.Fault {
	return fault.New(http.StatusInternalServerError, "PGRST111", "response.headers guc must be a JSON array composed of objects with a single key and a string value")
}

// InvalidResponseStatus is a response.status that the tenant's SQL set to no status.
func InvalidResponseStatus() *fault.Fault {
	return fault.New(http.StatusInternalServerError, "PGRST112", "response.status guc must be a valid status code")
}

// NotByKey is a PUT that does not name exactly one row by its primary key.
func NotByKey() *fault.Fault {
	return fault.New(http.StatusMethodNotAllowed, "PGRST105", "Filters must include all and only primary key columns with 'eq' operators")
}

// PagedPut is a PUT with a limit or an offset.
func PagedPut() *fault.Fault {
	return fault.New(http.StatusBadRequest, "PGRST114", "limit/offset querystring parameters are not allowed for PUT")
}

// OtherKey is a PUT whose body is of another row than its filters.
func OtherKey() *fault.Fault {
	return fault.New(http.StatusBadRequest, "PGRST115", "Payload values do not match URL in primary key column(s)")
}
