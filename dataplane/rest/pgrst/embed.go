package pgrst

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/freehold-db/freehold/dataplane/fault"
)

// NoRelationship is an embed that no foreign key leads to; hint (the client's)
// and suggestion may be empty.
func NoRelationship(schema, from, to, hint, suggestion string) *fault.Fault {
	using := ""
	if hint != "" {
		using = fmt.Sprintf(" using the hint '%s'", hint)
	}
	f := fault.New(http.StatusBadRequest, "PGRST200", fmt.Sprintf("Could not find a relationship between '%s' and '%s' in the schema cache", from, to)).
		WithDetails(fmt.Sprintf("Searched for a foreign key relationship between '%s' and '%s'%s in the schema '%s', but no matches were found.", from, to, using, schema))
	if suggestion != "" {
		f.Hint = fmt.Sprintf("Perhaps you meant '%s' instead of '%s'.", suggestion, to)
	}
	return f
}

// Way is one of several relationships that an embed may mean.
type Way struct {
	Cardinality  string `json:"cardinality"`
	Embedding    string `json:"embedding"`
	Relationship string `json:"relationship"`
	// Hint is how to ask for this one.
	Hint string `json:"-"`
}

// Columns renders `name(a, b)`.
func Columns(name string, columns []string) string {
	return name + "(" + strings.Join(columns, ", ") + ")"
}

// Ambiguous is an embed that several foreign keys lead to.
func Ambiguous(from, to string, ways []Way) *fault.Fault {
	hints := make([]string, len(ways))
	for i, w := range ways {
		hints[i] = "'" + w.Hint + "'"
	}
	f := fault.New(http.StatusMultipleChoices, "PGRST201", fmt.Sprintf("Could not embed because more than one relationship was found for '%s' and '%s'", from, to)).
		WithHint(fmt.Sprintf("Try changing '%s' to one of the following: %s. Find the desired relationship in the 'details' key.", to, strings.Join(hints, ", ")))
	details, err := json.Marshal(ways)
	if err != nil { // strings only
		panic("pgrst: " + err.Error())
	}
	f.DetailsJSON = details
	return f
}

// NoRelatedOrder is an order by a resource of which there may be several.
func NoRelatedOrder(from, to string) *fault.Fault {
	return fault.New(http.StatusBadRequest, "PGRST118", fmt.Sprintf("A related order on '%s' is not possible", to)).
		WithDetails(fmt.Sprintf("'%s' and '%s' do not form a many-to-one or one-to-one relationship", from, to))
}
