package plan

import (
	"fmt"
	"slices"

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
	// Page is what is asked for by limit, offset and Range.
	Page Page
	// MaxRows bounds a read's rows whatever is asked for; 0 for no bound.
	MaxRows         int64
	Return          Return
	Resolution      Resolution
	MissingDefaults bool
	// Answer is taken over but for Body and Location of a write, which Return decides.
	Answer Answer
}

// maxDefaultRows bounds an insert whose rows have different keys and want
// defaults: each of its rows is a parameter of its own.
const maxDefaultRows = 10_000

// Build resolves every name of a request. Its errors are the dialect's faults.
func Build(s *schema.Schema, req *Request) (*Plan, error) {
	relation := s.Relation(req.Relation)
	if relation == nil {
		suggestion, _ := s.SuggestRelation(req.Relation)
		return nil, pgrst.UnknownTable(req.Relation.Schema, req.Relation.Name, suggestion)
	}
	b := builder{relation: relation, req: req}
	p := &Plan{Read: Read{From: relation, Page: Page{Limit: -1}}, Answer: req.Answer}
	var err error
	if p.Read.Output, err = b.output(); err != nil {
		return nil, err
	}
	for _, scope := range req.Query.Embedded {
		return nil, pgrst.NotEmbedded(scope.Path[0])
	}
	if p.Read.Order, err = b.order(); err != nil {
		return nil, err
	}
	where, err := b.predicates(req.Query.Root.Where)
	if err != nil {
		return nil, err
	}
	switch req.Action {
	case ActionRead:
		p.Read.Where, p.Read.Page = where, req.Page
		if req.MaxRows > 0 && (p.Read.Page.Limit < 0 || p.Read.Page.Limit > req.MaxRows) {
			p.Read.Page.Limit = req.MaxRows
		}
		return p, nil
	case ActionInsert:
		p.Write, err = b.insert()
	case ActionUpdate:
		p.Write, err = b.update(where)
	case ActionDelete:
		p.Write = &Delete{From: relation, Where: where}
	}
	if err != nil {
		return nil, err
	}
	b.returning(p)
	return p, nil
}

type builder struct {
	relation *schema.Relation
	req      *Request
}

// returning fits what is read to what the write is to answer with. A bound on
// pages would not bound what is written, so it is refused before (see rest).
func (b *builder) returning(p *Plan) {
	p.Answer.Body, p.Answer.Location = b.req.Return == ReturnRows, false
	if p.Answer.Body {
		return
	}
	p.Read.Output, p.Read.Order = nil, nil
	if _, insert := p.Write.(*Insert); insert && b.req.Return == ReturnHeaders && len(b.relation.PrimaryKey) > 0 {
		p.Answer.Location = true
		for _, name := range b.relation.PrimaryKey {
			p.Read.Output = append(p.Read.Output, Output{Expr: Expr{Column: b.relation.Column(name)}})
		}
	}
}

func (b *builder) column(name string) (*schema.Column, error) {
	if c := b.relation.Column(name); c != nil {
		return c, nil
	}
	suggestion, _ := b.relation.SuggestColumn(name)
	return nil, pgrst.UnknownColumn(b.relation.Name.Name, name, suggestion)
}

func (b *builder) expr(f query.Field) (Expr, error) {
	c, err := b.column(f.Name)
	return Expr{Column: c, Path: f.Path}, err
}

func (b *builder) output() ([]Output, error) {
	if len(b.req.Query.Select) == 0 {
		return []Output{{Star: true}}, nil
	}
	out := make([]Output, 0, len(b.req.Query.Select))
	for _, item := range b.req.Query.Select {
		switch item := item.(type) {
		case query.Star:
			out = append(out, Output{Star: true})
		case *query.Embed:
			return nil, pgrst.NotImplemented(fmt.Sprintf("Embedding '%s': resource embedding is not served yet", item.Relation))
		case *query.Column:
			o, err := b.outputColumn(item)
			if err != nil {
				return nil, err
			}
			out = append(out, o)
		}
	}
	return out, nil
}

func (b *builder) outputColumn(item *query.Column) (Output, error) {
	if item.Aggregate != query.NoAggregate {
		return Output{}, pgrst.NoAggregates()
	}
	expr, err := b.expr(item.Field)
	if err != nil {
		return Output{}, err
	}
	o := Output{Expr: expr, Name: item.Alias}
	if item.Cast != "" {
		cast, ok := castTypes[item.Cast]
		if !ok {
			return Output{}, pgrst.UnknownType(item.Cast)
		}
		o.Cast = cast
	}
	if o.Name == "" && (len(expr.Path) > 0 || o.Cast != "") {
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

func (b *builder) order() ([]Order, error) {
	var order []Order
	for _, term := range b.req.Query.Root.Order {
		if term.Relation != "" {
			return nil, pgrst.NotEmbedded(term.Relation)
		}
		expr, err := b.expr(term.Field)
		if err != nil {
			return nil, err
		}
		order = append(order, Order{Expr: expr, Desc: term.Desc, Nulls: term.Nulls})
	}
	return order, nil
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
		left, err := b.expr(c.Field)
		return &Comparison{Left: left, Filter: c}, err
	}
	return nil, fmt.Errorf("plan: unknown condition %T", condition)
}
