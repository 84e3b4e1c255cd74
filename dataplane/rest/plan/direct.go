package plan

import (
	"slices"

	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// direct tells whether p reads the one row of a primary key as it is. Then no
// page has to be cut out of the rows before they are represented, which saves
// Postgres a sixth of the work.
func (p *Plan) direct() bool {
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
