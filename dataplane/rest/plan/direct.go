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
