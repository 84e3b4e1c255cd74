package plan

import (
	"slices"

	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// Plain tells whether p runs no SQL but its own: no trigger, function, view,
// policy or type of the tenant's has a say. Then nobody is there who could read
// a setting of the request or write anything else. What it is not sure of is not plain.
func (p *Plan) Plain() bool {
	if in, ok := p.Write.(*Insert); ok {
		return in.Into.Blind && p.Calm()
	}
	return p.Write == nil && p.Call == nil && p.Answer.Handler == nil && (p.Answer.Format == JSON || p.Answer.Format == CSV) && p.Read.plain()
}

// Calm tells whether p, that is not plain, leaves nothing in its session: it only
// adds rows to a table where that runs none of the tenant's SQL, although
// defaults may read the request's settings.
func (p *Plan) Calm() bool {
	in, insert := p.Write.(*Insert)
	return insert && in.Into.Plain && in.Into.Calm && (in.Conflict == nil || !in.Conflict.Merge) && allPlain(in.Match) &&
		p.Answer.Handler == nil && (p.Answer.Format == JSON || p.Answer.Format == CSV) && p.Read.plain()
}

func (r *Read) plain() bool {
	return r.From.Plain && !r.casts() &&
		!slices.ContainsFunc(r.Output, func(o Output) bool { return o.Format != nil || !o.Expr.storedOnly() }) &&
		!slices.ContainsFunc(r.Order, func(o Order) bool { return !o.Expr.storedOnly() }) &&
		allPlain(r.Where) &&
		!slices.ContainsFunc(r.Embeds, func(e *Embed) bool { return !plainWay(e.By) || !e.Read.plain() })
}

func plainWay(by *schema.Relationship) bool {
	return by.Function == nil && (by.Junction == nil || by.Junction.Relation.Plain)
}

func (e Expr) storedOnly() bool { return e.Column == nil || e.Column.Function == nil }

// comparable are the types for which Postgres itself has every operator of
// [ordinary], so that none of the tenant's can be meant.
var (
	comparable = []string{"int8", "int4", "text", "uuid", "timestamptz", "bool", "varchar", "numeric", "date", "timestamp",
		"float8", "int2", "bpchar", "float4", "time", "timetz", "interval", "jsonb", "bytea"}
	ordinary = []query.Op{query.Eq, query.In, query.Is, query.Neq, query.Gt, query.Gte, query.Lt, query.Lte, query.IsDistinct}
)

func allPlain(predicates []Predicate) bool {
	for _, p := range predicates {
		switch p := p.(type) {
		case *Comparison:
			if !p.Left.storedOnly() || p.Left.Column.Representation != nil || !slices.Contains(comparable, p.Left.Column.Base) || !slices.Contains(ordinary, p.Op) {
				return false
			}
		case *Junction:
			if !allPlain(p.Terms) {
				return false
			}
		case *Existence: // of an embedded resource, which is looked at itself
		default:
			return false
		}
	}
	return true
}
