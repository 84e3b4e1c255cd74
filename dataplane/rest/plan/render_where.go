package plan

import (
	"slices"

	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// operators is SQL between two operands.
var operators = map[query.Op]string{
	query.Eq: "=", query.Neq: "<>", query.Gt: ">", query.Gte: ">=", query.Lt: "<", query.Lte: "<=",
	query.Like: "LIKE", query.ILike: "ILIKE", query.Match: "~", query.IMatch: "~*",
	query.IsDistinct: "IS DISTINCT FROM",
	query.Contains:   "@>", query.Contained: "<@", query.Overlaps: "&&",
	query.StrictlyLeft: "<<", query.StrictlyRight: ">>",
	query.NotExtendsRight: "&<", query.NotExtendsLeft: "&>", query.Adjacent: "-|-",
}

var textSearch = map[query.Op]string{
	query.FTS: "to_tsquery", query.PlainFTS: "plainto_tsquery",
	query.PhraseFTS: "phraseto_tsquery", query.WebFTS: "websearch_to_tsquery",
}

var isValues = map[query.IsValue]string{
	query.Null: "NULL", query.NotNull: "NOT NULL", query.True: "TRUE", query.False: "FALSE", query.Unknown: "UNKNOWN",
}

func (w *writer) where(predicates []Predicate) *writer {
	if predicates = w.remaining(predicates); len(predicates) == 0 {
		return w
	}
	return w.text(" WHERE ").joined(predicates, " AND ")
}

// remaining are the predicates that the joins leave to be rendered.
func (w *writer) remaining(predicates []Predicate) []Predicate {
	byJoin := func(p Predicate) bool {
		existence, ok := p.(*Existence)
		return ok && existence.Inner
	}
	if !w.met || !slices.ContainsFunc(predicates, byJoin) {
		return predicates
	}
	return slices.DeleteFunc(slices.Clone(predicates), byJoin)
}

func (w *writer) joined(predicates []Predicate, by string) *writer {
	for i, p := range predicates {
		if i > 0 {
			w.text(by)
		}
		w.predicate(p)
	}
	return w
}

func (w *writer) predicate(p Predicate) *writer {
	switch p := p.(type) {
	case *Junction:
		by := " AND "
		if p.Or {
			by = " OR "
		}
		return w.not(p.Not).text("(").joined(p.Terms, by).text(")")
	case *Existence:
		return w.exists(p)
	case *Comparison:
		return w.not(p.Not).text("(").comparison(p).text(")")
	}
	return w
}

func (w *writer) not(not bool) *writer {
	if not {
		w.text("NOT ")
	}
	return w
}

func (w *writer) comparison(c *Comparison) *writer {
	switch c.Op {
	case query.In:
		w.expr(c.Left, true).text(" = ANY (")
		if parse := c.Left.fromText(); parse != nil {
			return w.text("SELECT ").name(parse).text("(pg_catalog.unnest(").param(arrayLiteral(c.Values)).text("::text[])))")
		}
		return w.param(arrayLiteral(c.Values)).text(")")
	case query.Is:
		return w.expr(c.Left, true).text(" IS ").text(isValues[c.Is])
	case query.FTS, query.PlainFTS, query.PhraseFTS, query.WebFTS:
		return w.search(c)
	}
	value := []byte(c.Value)
	if c.Op == query.Like || c.Op == query.ILike {
		value = pattern(c.Value)
	}
	w.expr(c.Left, true).text(" ").text(operators[c.Op]).text(" ")
	switch c.Quant {
	case query.Any:
		return w.text("ANY (").operand(c, value).text(")")
	case query.All:
		return w.text("ALL (").operand(c, value).text(")")
	case query.NoQuant:
	}
	return w.operand(c, value)
}

// operand renders what a column is compared with, read as its domain reads text.
func (w *writer) operand(c *Comparison, value []byte) *writer {
	parse := c.Left.fromText()
	if parse == nil || c.Op == query.Like || c.Op == query.ILike || c.Op == query.IsDistinct {
		return w.param(value)
	}
	return w.name(parse).text("(").param(value).text(")")
}

func (e Expr) fromText() *schema.Name {
	if r := e.Column.Representation; r != nil && len(e.Path) == 0 {
		return r.FromText
	}
	return nil
}

// search makes a tsvector of what isn't one.
func (w *writer) search(c *Comparison) *writer {
	if len(c.Left.Path) == 0 && c.Left.Column.Base == "tsvector" {
		w.expr(c.Left, true)
	} else {
		w.text("pg_catalog.to_tsvector(").config(c.Config).expr(c.Left, true).text(")")
	}
	return w.text(" @@ pg_catalog.").text(textSearch[c.Op]).text("(").config(c.Config).param([]byte(c.Value)).text(")")
}

func (w *writer) config(name string) *writer {
	if name == "" {
		return w
	}
	return w.param([]byte(name)).text("::pg_catalog.regconfig, ")
}
