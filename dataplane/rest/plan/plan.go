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
	// Call is the function whose rows are read, or nil.
	Call *Call
	Read Read
	// ReadOnly: the transaction may not write.
	ReadOnly bool
	// MaxRows is the bound of an estimate's counting; 0 for none.
	MaxRows int64
	// Answer is the form of what comes back.
	Answer Answer
	// ContentType is that of the answer's body.
	ContentType string
	// Explain asks for the execution plan in place of the answer; nil for the answer.
	Explain *Explain

	geoJSON *schema.Name
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
	// Match are the rows of the body that are taken; nil for all.
	Match []Predicate
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

// Read is a selection from a relation, from the rows a write touched or a
// function returned, or from rows related to those of another Read.
type Read struct {
	From *schema.Relation
	// ID tells the reads of a plan apart; the root's is 0.
	ID     int
	Output []Output
	// Embeds are the related resources, in the order of select.
	Embeds []*Embed
	Where  []Predicate
	Order  []Order
	Page   Page
	// junction: it is reached by one.
	junction bool
}

// Embed is a related resource inside of each row of a Read.
type Embed struct {
	// Name is the key in the parent's rows; Target is how the request named the resource.
	Name, Target string
	By           *schema.Relationship
	Read         Read
	// Inner: a parent without related rows is left out; see also [Existence].
	Inner bool
	// Spread: its columns are the parent's. Silent: it is there to be filtered by only.
	Spread, Silent bool
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
	// Format is the function that represents the value, or nil; Cast is applied after it.
	Format *schema.Name
	// Cast is a type's SQL, or "".
	Cast string
	// Aggregate is applied after Cast, and AggregateCast after that. Without a column it counts rows.
	Aggregate     query.Aggregate
	AggregateCast string
	// Name is the client's choice or follows from Expr; "" is the column's own.
	Name string
}

// Expr is a column and the way into it.
type Expr struct {
	Column *schema.Column
	Path   []query.Step
}

// Predicate is a [*Comparison], a [*Junction] or an [*Existence].
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

// Existence is true of rows that have a related one.
type Existence struct {
	Not bool
	Of  *Embed
	// Inner: it is that of an embed which is inner.
	Inner bool
}

func (*Existence) predicate()  {}
func (*Comparison) predicate() {}
func (*Junction) predicate()   {}

// Order is one term of a sort.
type Order struct {
	// Of is set when Expr is a related row's.
	Of    *Embed
	Expr  Expr
	Desc  bool
	Nulls query.Nulls
}

// Format is that of a body.
type Format int

const (
	JSON Format = iota
	CSV
	// Raw is the value that a function returned, as it is.
	Raw
	// GeoJSON is a collection of features.
	GeoJSON
	// Custom is what a handler of the tenant's makes of the rows.
	Custom
)

// Count is the number of rows that is wanted, whatever the page.
type Count int

const (
	NoCount Count = iota
	// ExactCount counts them.
	ExactCount
	// PlannedCount is what Postgres expects.
	PlannedCount
	// EstimatedCount counts them up to the bound of rows, and takes what Postgres expects beyond.
	EstimatedCount
)

// Answer is the form of the answer. Its zero value counts the rows and no more.
type Answer struct {
	// Body wants the rows: an array, or the one object when Singular.
	Body   bool
	Format Format
	// Handler is that of the Custom format.
	Handler    *schema.Handler
	Singular   bool
	StripNulls bool
	Count      Count
	// MaxAffected makes a write of more rows fail and change nothing; negative for no bound.
	MaxAffected int64
	// MaxBytes makes a write with a longer Body fail and change nothing; 0 for no
	// bound. A read is not guarded, for that would cost Postgres a fifth of the
	// work of a small one, and whoever runs it can drop what is too long.
	MaxBytes int64
	// Location wants the primary key of the row when a write touched exactly one.
	Location bool
}
