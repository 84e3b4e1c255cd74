package plan

import (
	"slices"

	"github.com/freehold-db/freehold/dataplane/rest/body"
	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

func (b *builder) insert() (*Insert, error) {
	names := b.req.Query.Columns
	in := &Insert{Into: b.relation, Rows: b.req.Body}
	uniform := b.req.Body.Uniform()
	switch {
	case names == nil && !uniform:
		return nil, pgrst.InvalidBody("All object keys must match")
	case names == nil:
		names = b.req.Body.AllKeys()
	case b.req.MissingDefaults:
		// Columns that no row has get their default by not being mentioned.
		if err := b.known(names); err != nil {
			return nil, err
		}
		names = intersect(names, b.req.Body.AllKeys())
		in.Defaults = !uniform
	}
	var err error
	if in.Columns, err = b.written(names); err != nil {
		return nil, err
	}
	if in.Defaults && in.cells() > maxDefaultCells {
		return nil, pgrst.InvalidBody("Too many rows with different keys for missing=default").
			WithHint("Send fewer rows, or rows with the same keys.")
	}
	if b.req.Resolution == Refuse {
		return in, nil
	}
	key := b.req.Query.OnConflict
	if key == nil {
		key = b.relation.PrimaryKey
	}
	if len(key) == 0 {
		return in, nil
	}
	in.Conflict = &Conflict{Merge: b.req.Resolution == MergeDuplicates}
	for _, name := range key {
		c := b.relation.Column(name)
		if c == nil {
			return nil, pgrst.UnknownConflictColumn(name)
		}
		in.Conflict.Columns = append(in.Conflict.Columns, c)
	}
	return in, nil
}

// cells is what Postgres has to plan of an insert whose rows are values by
// themselves: about 10 KB each.
func (in *Insert) cells() int {
	each := 1
	if !populates(in.Into, in.Columns) { // a selection
		each = 10
	}
	return len(in.Rows.Rows) * len(in.Columns) * each
}

// put is an upsert of the one row that the filters name by its primary key; other
// rows of the body are left out.
func (b *builder) put(where []Predicate) (*Insert, error) {
	var named []string
	for _, p := range where {
		c, ok := p.(*Comparison)
		if !ok || c.Op != query.Eq || c.Not || c.Quant != query.NoQuant || len(c.Left.Path) > 0 {
			return nil, pgrst.NotByKey()
		}
		named = append(named, c.Left.Column.Name)
	}
	key := slices.Clone(b.relation.PrimaryKey)
	slices.Sort(key)
	slices.Sort(named)
	switch {
	case len(key) == 0 || !slices.Equal(key, named):
		return nil, pgrst.NotByKey()
	case !b.req.Body.Uniform():
		return nil, pgrst.InvalidBody("All object keys must match")
	case len(b.req.Body.Rows) == 0 || len(intersect(key, b.req.Body.Keys[0])) != len(key):
		return nil, pgrst.OtherKey()
	}
	columns, err := b.written(b.req.Body.AllKeys())
	if err != nil {
		return nil, err
	}
	in := &Insert{Into: b.relation, Rows: b.req.Body, Columns: columns, Match: where, Conflict: &Conflict{Merge: true}}
	for _, name := range key {
		in.Conflict.Columns = append(in.Conflict.Columns, b.relation.Column(name))
	}
	return in, nil
}

func (b *builder) update(where []Predicate) (*Update, error) {
	u := &Update{Of: b.relation, Where: where, Values: b.req.Body}
	if len(b.req.Body.Rows) == 0 {
		return u, nil
	}
	keys, names := b.req.Body.Keys[0], b.req.Query.Columns
	if names == nil {
		if names = keys; !b.req.Body.Uniform() {
			return nil, pgrst.InvalidBody("All object keys must match")
		}
	}
	if len(b.req.Body.Rows) > 1 { // to join several, as PostgREST does, is to take the first
		u.Values = &body.Body{Text: b.req.Body.Rows[0], Rows: b.req.Body.Rows[:1], Keys: b.req.Body.Keys[:1]}
	}
	if err := b.known(names); err != nil {
		return nil, err
	}
	var err error
	if b.req.MissingDefaults {
		missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(keys, name) })
		if u.Defaults, err = b.written(missing); err != nil {
			return nil, err
		}
		names = intersect(names, keys)
	}
	u.Columns, err = b.written(names)
	return u, err
}

// known refuses names that are no columns of a body.
func (b *builder) known(names []string) error {
	_, err := b.written(names)
	return err
}

// written resolves the columns of a body, each once.
func (b *builder) written(names []string) ([]*schema.Column, error) {
	columns := make([]*schema.Column, 0, len(names))
	for _, name := range names {
		c := b.relation.Column(name)
		if c == nil {
			return nil, pgrst.UnknownBodyColumn(b.relation.Name.Name, name)
		}
		if !slices.Contains(columns, c) {
			columns = append(columns, c)
		}
	}
	return columns, nil
}

// intersect keeps the names that are among the sorted ones.
func intersect(names, sorted []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, ok := slices.BinarySearch(sorted, name)
		return !ok
	})
}
