// Package query is the grammar of PostgREST's query strings: text in, a typed
// tree out. It knows no schema and no SQL; whether a name exists is the
// planner's question. Everything that the dialect can say has a place in the
// tree, also what the planner does not serve yet.
//
// Import law: of this module, query imports nothing.
package query

// Query is one parsed query string.
type Query struct {
	// Select is what the answer holds; nil means every column.
	Select []Item
	// Root filters, orders and pages the resource of the path.
	Root Scope
	// Embedded does the same for embedded resources, in the order of their first mention.
	Embedded []Scope
	// Columns names the keys of the body to take; nil means all of them.
	Columns []string
	// OnConflict names the columns of the unique constraint to upsert on; nil means the primary key.
	OnConflict []string
	// Args are the arguments of a function; nil but by [ParseCall].
	Args []Arg
}

// Arg is a named argument.
type Arg struct{ Name, Value string }

// Scope is what applies to one resource: the root or an embedded one.
type Scope struct {
	// Path leads to the resource through the embeds of Select; empty at the root.
	Path []string
	// Where holds conditions that all must be true.
	Where []Condition
	Order []Order
	// Limit is the most rows wanted; nil means as many as there are.
	Limit *int64
	// Offset is the number of rows to skip; nil means none.
	Offset *int64
}

// Item is one entry of `select`: a [Star], a [Column] or an [Embed].
type Item interface{ item() }

// Star is `*`: every column.
type Star struct{}

// Column is a column, or something inside it, under a name of the client's choice.
type Column struct {
	Alias string // "" when the client gave none
	Field Field  // zero with Aggregate Count over rows
	Cast  string // type as written, "" for none
	// Aggregate is applied after Cast; AggregateCast after that.
	Aggregate     Aggregate
	AggregateCast string
}

// Embed is a related resource inside of this one.
type Embed struct {
	Alias    string
	Relation string
	Hint     string // a constraint, column or junction that tells relationships apart
	Join     Join
	Spread   bool // `...`: its columns become the parent's
	Select   []Item
}

func (Star) item()    {}
func (*Column) item() {}
func (*Embed) item()  {}

// Join says what becomes of a parent without related rows.
type Join int

const (
	JoinDefault Join = iota // not said
	JoinLeft                // `!left`: it stays
	JoinInner               // `!inner`: it goes
)

// Aggregate is an aggregate function.
type Aggregate int

const (
	NoAggregate Aggregate = iota
	Count
	Sum
	Avg
	Min
	Max
)

// Field is a column and the way into it.
type Field struct {
	Name string
	Path []Step
}

// Step goes one level into a JSON, array or composite value.
type Step struct {
	// Text is true for `->>`: the result is text instead of JSON.
	Text bool
	// Key is an object's key; when IsIndex, Index is an array's element, counted from the end when negative.
	Key     string
	IsIndex bool
	Index   int32
}

// Condition is a [Filter] or a [Group] of conditions.
type Condition interface{ condition() }

// Group joins conditions by AND or OR. It has at least one.
type Group struct {
	Not   bool
	Or    bool
	Terms []Condition
}

// Filter compares a field.
type Filter struct {
	Field Field
	Not   bool
	Op    Op
	Quant Quant
	// Value is the operand as written; for [In] see Values, for [Is] see Is.
	Value  string
	Values []string
	Is     IsValue
	// Config names the text search configuration, "" for the database's default.
	Config string
}

func (*Group) condition()  {}
func (*Filter) condition() {}

// Quant turns an operator's operand into an array of which any or all must match.
type Quant int

const (
	NoQuant Quant = iota
	Any
	All
)

// IsValue is the operand of [Is].
type IsValue int

const (
	Null IsValue = iota
	NotNull
	True
	False
	Unknown
)

// Order is one term of `order`.
type Order struct {
	// Relation is set to order by a column of an embedded to-one resource.
	Relation string
	Field    Field
	Desc     bool
	Nulls    Nulls
}

// Nulls says where nulls are sorted; by default as if larger than any value.
type Nulls int

const (
	NullsDefault Nulls = iota
	NullsFirst
	NullsLast
)
