package plan

import (
	"slices"

	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// ByRow tells whether p's statement returns every row by itself, as the JSON of
// its one column, for the caller to make an array of: that takes Postgres a
// quarter less time than to gather them, which it has better uses for. The
// array is written as Postgres does it: [row, \n row].
func (p *Plan) ByRow() bool {
	return p.Write == nil && p.Call == nil && p.Explain == nil && p.Answer.Body && p.Answer.Format == JSON && !p.Answer.StripNulls &&
		(p.Answer.Count == NoCount || p.Answer.Count == PlannedCount) && !p.runsSQL()
}

// Tagged tells whether p's statement returns nothing at all, for nothing is
// asked of what it inserts but the number of rows, which its command tag has.
func (p *Plan) Tagged() bool {
	return p.Calm() && p.Explain == nil && !p.Answer.Body && !p.Answer.Location && !p.Answer.Singular
}

// ByKey tells whether p reads the one row of a primary key as it is. Then no
// page has to be cut out of the rows before they are represented, which saves
// Postgres a sixth of the work.
func (p *Plan) ByKey() bool {
	r := &p.Read
	return p.Write == nil && p.Call == nil && p.Answer.Count == NoCount && r.From.Kind == schema.Table &&
		r.whole() && r.Page.Offset == 0 && (r.Page.Limit < 0 || r.Page.Limit >= unbounded) && r.oneByKey()
}

// Straight tells whether p's rows can be represented as they come from their
// table, and no page has to be cut out of them before: nothing sorts them, and
// all of those that are not part of the page come after it. Then Postgres is
// spared a subquery, which is a tenth of a short page's work. Where something is
// sorted, it would make JSON of every row that is, and not of the page's alone.
func (p *Plan) Straight() bool {
	r := &p.Read
	return p.ByRow() && r.From.Kind == schema.Table && r.whole() && r.Page.Offset == 0 && (len(r.Order) == 0 || r.alongKey())
}

// alongKey tells whether the rows are wanted in the order of a primary key of
// one column, and chosen by nothing else: its index has them like that, and no
// other could do better and leave something to sort.
func (r *Read) alongKey() bool {
	if len(r.From.PrimaryKey) != 1 || len(r.Order) != 1 || r.Order[0].Of != nil || r.Order[0].Nulls != query.NullsDefault {
		return false
	}
	isKey := func(e Expr) bool { return len(e.Path) == 0 && e.Column.Name == r.From.PrimaryKey[0] }
	return isKey(r.Order[0].Expr) && !slices.ContainsFunc(r.Where, func(p Predicate) bool {
		c, ok := p.(*Comparison)
		return !ok || c.Not || c.Quant != query.NoQuant || !slices.Contains(ordered, c.Op) || !isKey(c.Left)
	})
}

// ordered are the operators that an index serves in its order.
var ordered = []query.Op{query.Eq, query.Gt, query.Gte, query.Lt, query.Lte}

// unbounded is a limit that is none for rows of one key: tables that inherit
// from one another may have several.
const unbounded = 100

// oneByKey tells whether the filters name at most one row by the primary key.
func (r *Read) oneByKey() bool {
	return len(r.From.PrimaryKey) > 0 && !slices.ContainsFunc(r.From.PrimaryKey, func(name string) bool {
		return !slices.ContainsFunc(r.Where, func(p Predicate) bool {
			c, ok := p.(*Comparison)
			return ok && c.Op == query.Eq && !c.Not && c.Quant == query.NoQuant && len(c.Left.Path) == 0 && c.Left.Column.Name == name
		})
	})
}
