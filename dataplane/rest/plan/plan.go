// Package plan turns a parsed request and a schema into a typed tree in which
// every name is one that the schema knows, and the tree into one SQL statement
// in which everything a client wrote is a parameter or a quoted alias.
//
// Import law: of this module, plan imports its siblings query, schema, body and
// pgrst only.
package plan

import (
	"github.com/freehold-db/freehold/dataplane/rest/body"
	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// Plan is one request against one schema: a write, or nil, and what is read
// from its rows, or from the relation itself.
type Plan struct {
	Write Write
	Read  Read
	// Answer is the form of what comes back.
	Answer Answer
}

// Write changes a relation: an [*Insert], an [*Update] or a [*Delete].
type Write interface{ write() }

// Insert adds the rows of a body.
type Insert struct {
	Into    *schema.Relation
	Columns []*schema.Column
	Rows    *body.Body
	// Defaults: a column that a row doesn't have gets its default instead of null.
	Defaults bool
	// Conflict is nil when a duplicate is an error.
	Conflict *Conflict
}

// Conflict says what to do with a row that is there already.
type Conflict struct {
	// Columns of the unique constraint.
	Columns []*schema.Column
	// Merge updates the row; otherwise the new one is ignored.
	Merge bool
}

// Update sets columns of the rows that match.
type Update struct {
	Of    *schema.Relation
	Where []Predicate
	// Columns are set from the body, Defaults to their defaults. When both are empty nothing is updated.
	Columns, Defaults []*schema.Column
	Values            *body.Body
}

// Delete removes the rows that match.
type Delete struct {
	From  *schema.Relation
	Where []Predicate
}

func (*Insert) write() {}
func (*Update) write() {}
func (*Delete) write() {}

// Read is a selection from a relation, or from the rows a write touched.
// Embedded resources will be children of it.
type Read struct {
	From   *schema.Relation
	Output []Output
	Where  []Predicate
	Order  []Order
	Page   Page
}

// Page is the part of the rows that is wanted.
type Page struct {
	Offset int64
	// Limit is the most rows; negative for all of them.
	Limit int64
}

// Output is one column of the answer, or all columns of the relation.
type Output struct {
	Star bool
	Expr Expr
	// Cast is a type's SQL from the allow-list, or "".
	Cast string
	// Name is the client's choice or follows from Expr; "" is the column's own.
	Name string
}

// Expr is a column and the way into it.
type Expr struct {
	Column *schema.Column
	Path   []query.Step
}

// Predicate is a [*Comparison] or a [*Junction].
type Predicate interface{ predicate() }

// Comparison is a filter whose column is known.
type Comparison struct {
	Left Expr
	*query.Filter
}

// Junction joins predicates by AND or OR.
type Junction struct {
	Not, Or bool
	Terms   []Predicate
}

func (*Comparison) predicate() {}
func (*Junction) predicate()   {}

// Order is one term of a sort.
type Order struct {
	Expr  Expr
	Desc  bool
	Nulls query.Nulls
}

// Answer is the form of the answer. Its zero value counts the rows and no more.
type Answer struct {
	// Body wants the rows as JSON: an array, or the one object when Singular.
	Body       bool
	Singular   bool
	StripNulls bool
	// Total wants the number of rows there are, whatever the page.
	Total bool
	// MaxAffected makes a write of more rows fail and change nothing; negative for no bound.
	MaxAffected int64
	// MaxBytes makes a write with a longer Body fail and change nothing; 0 for no
	// bound. A read is not guarded, for that would cost Postgres a fifth of the
	// work of a small one, and whoever runs it can drop what is too long.
	MaxBytes int64
	// Location wants the primary key of the row when a write touched exactly one.
	Location bool
}
