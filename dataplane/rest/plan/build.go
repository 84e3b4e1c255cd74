package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/freehold-db/freehold/dataplane/rest/body"
	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// Action is what a request does to a relation.
type Action int

const (
	ActionRead Action = iota
	ActionInsert
	ActionUpdate
	ActionDelete
	// ActionPut inserts or updates the one row of a primary key.
	ActionPut
	// ActionCall calls a function.
	ActionCall
	// ActionOptions asks what else there is to do.
	ActionOptions
)

// Resolution is what an insert does with duplicates.
type Resolution int

const (
	Refuse Resolution = iota
	MergeDuplicates
	IgnoreDuplicates
)

// Return is what a write answers with.
type Return int

const (
	ReturnMinimal Return = iota
	ReturnHeaders
	ReturnRows
)

// Request is everything that a plan follows from, besides the schema.
type Request struct {
	Action   Action
	Relation schema.Name
	Query    *query.Query
	Body     *body.Body // of an insert or update
	Args     *CallArgs  // of a call
	// Accept are the media types that the client accepts, in the order of its preference.
	Accept []Media
	// Plans: execution plans may be asked for.
	Plans bool
	// Page is what is asked for by limit, offset and Range.
	Page Page
	// MaxRows bounds a read's rows whatever is asked for; 0 for no bound.
	MaxRows         int64
	Return          Return
	Resolution      Resolution
	MissingDefaults bool
	// Aggregates are refused unless enabled.
	Aggregates bool
	// Objection is what to say of a request that could otherwise be answered, or nil.
	Objection error
	// Answer is taken over but for its form, which Accept decides, and Body and
	// Location of a write, which Return decides.
	Answer Answer
}

// maxDefaultCells bounds an insert whose rows have different keys and want
// defaults: each of its rows is a parameter of its own, each value in it an
// expression of its own, and the shard's memory is everybody's.
const maxDefaultCells = 20_000

// Build resolves every name of a request. Its errors are the dialect's faults.
func Build(s *schema.Schema, req *Request) (*Plan, error) {
	t := tree{schema: s, req: req}
	if req.Args != nil && req.Action == ActionCall {
		return t.call()
	}
	relation := s.Relation(req.Relation)
	if relation == nil {
		return nil, pgrst.UnknownTable(req.Relation.Schema, req.Relation.Name, s.SuggestRelation(req.Relation))
	}
	p := &Plan{Read: Read{From: relation, Page: Page{Limit: -1}}, Answer: req.Answer, ReadOnly: req.Action == ActionRead, MaxRows: req.MaxRows}
	b := builder{tree: &t, relation: relation, read: &p.Read}
	if err := t.build(b); err != nil {
		return nil, err
	}
	where, err := b.predicates(req.Query.Root.Where)
	if err != nil {
		return nil, err
	}
	switch req.Action {
	case ActionRead:
		p.Read.Where, p.Read.Page = append(p.Read.Where, where...), t.bounded(req.Page)
		return p, cmp.Or(p.negotiate(s, req), req.Objection, t.missing)
	case ActionInsert:
		p.Write, err = b.insert()
	case ActionUpdate:
		p.Write, err = b.update(where)
	case ActionPut:
		p.Write, err = b.put(where)
	case ActionDelete:
		p.Write = &Delete{From: relation, Where: where}
	}
	if err != nil {
		return nil, err
	}
	err = cmp.Or(req.Objection, p.negotiate(s, req), t.missing) // as long as it is known what was selected
	b.returning(p)
	return p, err
}

// tree is what the builders of one plan share.
type tree struct {
	schema *schema.Schema
	req    *Request
	reads  int
	// missing says that a column does not exist. Postgres would have said so, after
	// everything else that can be wrong with a request.
	missing error
}

// build resolves what is selected, and what filters, orders and bounds the
// embedded resources; the root's own filters and page are the caller's.
func (t *tree) build(root builder) error {
	for i := range t.req.Query.Embedded {
		if err := embedded(t.req.Query.Select, t.req.Query.Embedded[i].Path); err != nil {
			return err
		}
	}
	var err error
	if root.read.Output, err = root.output(t.req.Query.Select); err != nil {
		return err
	}
	for i := range t.req.Query.Embedded {
		if err := root.scope(&t.req.Query.Embedded[i]); err != nil {
			return err
		}
	}
	root.read.Order, err = root.order(t.req.Query.Root.Order)
	return err
}

// bounded applies the bound that holds whatever is asked for.
func (t *tree) bounded(p Page) Page {
	if t.req.MaxRows > 0 && (p.Limit < 0 || p.Limit > t.req.MaxRows) {
		p.Limit = t.req.MaxRows
	}
	return p
}

// builder resolves the names of one Read.
type builder struct {
	*tree
	relation *schema.Relation
	read     *Read
	depth    int
}

// returning fits what is read to what the write is to answer with. A bound on
// pages would not bound what is written, so it is refused before (see rest).
func (b *builder) returning(p *Plan) {
	p.Answer.Body, p.Answer.Location = b.req.Return == ReturnRows, false
	if p.Answer.Body {
		return
	}
	p.Read = Read{From: p.Read.From, Page: p.Read.Page}
	if _, insert := p.Write.(*Insert); insert && b.req.Action == ActionInsert && b.req.Return == ReturnHeaders && len(b.relation.PrimaryKey) > 0 {
		p.Answer.Location = true
		for _, name := range b.relation.PrimaryKey {
			p.Read.Output = append(p.Read.Output, Output{Expr: Expr{Column: b.relation.Column(name)}})
		}
	}
}

// column finds a column; one that is missing is remembered as that.
func (b *builder) column(name string) *schema.Column {
	c := b.relation.Readable(name)
	if c == nil {
		if b.missing == nil {
			b.missing = pgrst.UnknownColumn(b.alias(), name, b.relation.SuggestColumns(name))
		}
		c = &schema.Column{Name: name}
	}
	return c
}

// alias is what PostgREST calls the resource within its statement, and so
// Postgres in its errors.
func (b *builder) alias() string {
	if b.depth == 0 || b.read.junction {
		return b.relation.Name.Name
	}
	return b.relation.Name.Name + "_" + strconv.Itoa(b.depth)
}

func (b *builder) expr(f query.Field) Expr { return Expr{Column: b.column(f.Name), Path: f.Path} }

func (b *builder) output(items []query.Item) ([]Output, error) {
	if len(items) == 0 && b.read.ID == 0 {
		return b.star(), nil
	}
	out := make([]Output, 0, len(items))
	for _, item := range items {
		switch item := item.(type) {
		case query.Star:
			out = append(out, b.star()...)
		case *query.Embed:
			if err := b.embed(item); err != nil {
				return nil, err
			}
		case *query.Column:
			o, err := b.outputColumn(item)
			if err != nil {
				return nil, err
			}
			out = append(out, o)
		}
	}
	return b.grouped(out), nil
}

// star is all columns: each by itself when some are represented by functions.
func (b *builder) star() []Output {
	if !b.relation.Represented() {
		return []Output{{Star: true}}
	}
	out := make([]Output, len(b.relation.Columns))
	for i := range b.relation.Columns {
		out[i].Expr = Expr{Column: &b.relation.Columns[i]}
		out[i].represent()
	}
	slices.SortFunc(out, func(a, b Output) int { return a.Expr.Column.Position - b.Expr.Column.Position })
	return out
}

// represent makes o what clients see of a stored column.
func (o *Output) represent() {
	if r := o.Expr.Column.Representation; r != nil && r.ToJSON != nil && len(o.Expr.Path) == 0 {
		o.Format, o.Name = r.ToJSON, cmp.Or(o.Name, o.Expr.Column.Name)
	}
}

// grouped names every column of a star beside which something is aggregated.
func (b *builder) grouped(out []Output) []Output {
	if !b.read.aggregated(out) {
		return out
	}
	var named []Output
	for _, o := range out {
		if !o.Star {
			named = append(named, o)
			continue
		}
		for i := range b.relation.Columns {
			named = append(named, Output{Expr: Expr{Column: &b.relation.Columns[i]}})
		}
	}
	return named
}

func (b *builder) outputColumn(item *query.Column) (Output, error) {
	o := Output{Name: item.Alias, Aggregate: item.Aggregate}
	if item.Aggregate != query.NoAggregate && !b.req.Aggregates {
		return Output{}, pgrst.NoAggregates()
	}
	var err, aggregateErr error
	o.Cast, err = castTo(item.Cast)
	o.AggregateCast, aggregateErr = castTo(item.AggregateCast)
	if err := cmp.Or(err, aggregateErr); err != nil {
		return Output{}, err
	}
	if item.Field.Name == "count" && len(item.Field.Path) == 0 && b.relation.Readable("count") == nil {
		o.Aggregate, o.Name = query.Count, cmp.Or(o.Name, "count") // to Postgres, t.count is count(t)
		return o, nil
	}
	if item.Field.Name == "" { // count()
		o.Name = cmp.Or(o.Name, "count")
		return o, nil
	}
	o.Expr = b.expr(item.Field)
	if o.Aggregate == query.NoAggregate {
		o.represent()
	}
	switch {
	case o.Name != "":
	case o.Aggregate != query.NoAggregate:
		o.Name = aggregates[o.Aggregate]
	case len(o.Expr.Path) > 0 || o.Cast != "" || o.Expr.Column.Function != nil:
		o.Name = nameOf(item.Field)
	}
	return o, nil
}

// nameOf is the last key of a path that can be a name, or else the column's name.
func nameOf(f query.Field) string {
	for _, step := range slices.Backward(f.Path) {
		if !step.IsIndex && step.Key != "" {
			return step.Key
		}
	}
	return f.Name
}

func (b *builder) order(terms []query.Order) ([]Order, error) {
	var order []Order
	for _, term := range terms {
		o := Order{Desc: term.Desc, Nulls: term.Nulls}
		if term.Relation == "" {
			o.Expr = b.expr(term.Field)
			order = append(order, o)
			continue
		}
		if o.Of = b.read.named(term.Relation); o.Of == nil {
			return nil, pgrst.NotEmbedded(term.Relation)
		}
		if !o.Of.By.ToOne() {
			return nil, pgrst.NoRelatedOrder(b.relation.Name.Name, term.Relation)
		}
		if named := o.Of.Read.output(term.Field.Name); named != nil && len(term.Field.Path) == 0 {
			o.Expr = named.Expr
		} else {
			o.Expr = b.inside(o.Of).expr(term.Field)
		}
		order = append(order, o)
	}
	return order, nil
}

// output finds what is selected under a name of the client's choice.
func (r *Read) output(name string) *Output {
	i := slices.IndexFunc(r.Output, func(o Output) bool {
		return o.Name == name && o.Aggregate == query.NoAggregate && o.Cast == "" && o.Format == nil && o.Expr.Column != nil
	})
	if i < 0 {
		return nil
	}
	return &r.Output[i]
}

func (b *builder) predicates(conditions []query.Condition) ([]Predicate, error) {
	out := make([]Predicate, 0, len(conditions))
	for _, condition := range conditions {
		p, err := b.predicate(condition)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func (b *builder) predicate(condition query.Condition) (Predicate, error) {
	switch c := condition.(type) {
	case *query.Group:
		terms, err := b.predicates(c.Terms)
		return &Junction{Not: c.Not, Or: c.Or, Terms: terms}, err
	case *query.Filter:
		if of := b.read.named(c.Field.Name); of != nil && len(c.Field.Path) == 0 && c.Op == query.Is && (c.Is == query.Null || c.Is == query.NotNull) {
			return &Existence{Not: c.Not == (c.Is == query.NotNull), Of: of}, nil
		}
		return &Comparison{Left: b.expr(c.Field), Filter: c}, nil
	}
	return nil, fmt.Errorf("plan: unknown condition %T", condition)
}
