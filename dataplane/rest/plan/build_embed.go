package plan

import (
	"cmp"
	"slices"

	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/query"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// maxReads bounds the resources of one request: with 50 of them Postgres plans
// for a second, with 100 for half a minute.
const maxReads = 50

// embed adds a related resource and all that is selected from it.
func (b *builder) embed(item *query.Embed) error {
	if b.reads++; b.reads > maxReads {
		return pgrst.NotImplemented("Too many embedded resources")
	}
	by, err := b.related(item)
	if err != nil {
		return err
	}
	e := &Embed{Name: cmp.Or(item.Alias, item.Relation), Target: item.Relation, By: by, Spread: item.Spread}
	e.Read = Read{From: by.To, ID: b.reads, Page: b.bounded(Page{Limit: -1}), junction: by.Junction != nil}
	if by.ToOne() {
		e.Read.Page.Limit = -1
	}
	if e.Read.Output, err = b.inside(e).output(item.Select); err != nil {
		return err
	}
	if e.Spread && !by.ToOne() && e.Read.aggregated(e.Read.Output) {
		return pgrst.NotImplemented("Aggregates are not implemented for one-to-many or many-to-many spreads.")
	}
	e.Silent = len(e.Read.Output) == 0 && !slices.ContainsFunc(e.Read.Embeds, func(inner *Embed) bool { return !inner.Silent })
	b.read.Embeds = append(b.read.Embeds, e)
	if item.Join == query.JoinInner {
		e.Inner = true
		b.read.Where = append(b.read.Where, &Existence{Of: e, Inner: true})
	}
	return nil
}

func (b *builder) related(item *query.Embed) (*schema.Relationship, error) {
	found := b.schema.Related(b.relation, item.Relation, item.Hint)
	from := b.relation.Name
	switch len(found) {
	case 0:
		return nil, pgrst.NoRelationship(from.Schema, from.Name, item.Relation, item.Hint, b.schema.SuggestRelated(b.relation, item.Relation))
	case 1:
		return found[0], nil
	}
	return nil, pgrst.Ambiguous(from.Name, item.Relation, ways(found))
}

// ways describes relationships for the one who must choose.
func ways(found []*schema.Relationship) []pgrst.Way {
	ways := make([]pgrst.Way, len(found))
	for i, r := range found {
		from, to := r.From.Name.Name, r.To.Name.Name
		ways[i] = pgrst.Way{Cardinality: string(r.Cardinality), Embedding: from + " with " + to}
		if j := r.Junction; j != nil {
			own, theirs := make([]string, len(j.FromPairs)), make([]string, len(j.ToPairs))
			for k, p := range j.FromPairs {
				own[k] = p.To
			}
			for k, p := range j.ToPairs {
				theirs[k] = p.From
			}
			ways[i].Hint = to + "!" + j.Relation.Name.Name
			ways[i].Relationship = j.Relation.Name.Name + " using " + pgrst.Columns(j.FromConstraint, own) + " and " + pgrst.Columns(j.ToConstraint, theirs)
			continue
		}
		own, theirs := make([]string, len(r.Pairs)), make([]string, len(r.Pairs))
		for k, p := range r.Pairs {
			own[k], theirs[k] = p.From, p.To
		}
		ways[i].Hint = to + "!" + r.Constraint
		ways[i].Relationship = r.Constraint + " using " + pgrst.Columns(from, own) + " and " + pgrst.Columns(to, theirs)
	}
	return ways
}

// inside is the builder of an embedded resource.
func (b *builder) inside(e *Embed) *builder {
	return &builder{tree: b.tree, relation: e.By.To, read: &e.Read, depth: b.depth + 1}
}

// embedded refuses a path that doesn't lead through the embeds of a selection.
func embedded(items []query.Item, path []string) error {
	for _, name := range path {
		i := slices.IndexFunc(items, func(item query.Item) bool {
			e, ok := item.(*query.Embed)
			return ok && (e.Relation == name || e.Alias == name)
		})
		if i < 0 {
			return pgrst.NotEmbedded(name)
		}
		items = items[i].(*query.Embed).Select
	}
	return nil
}

// named finds the resource embedded under the name that it has in the answer.
func (r *Read) named(name string) *Embed {
	i := slices.IndexFunc(r.Embeds, func(e *Embed) bool { return e.Name == name })
	if i < 0 {
		return nil
	}
	return r.Embeds[i]
}

// embed finds the resource embedded under a name, or of a name.
func (r *Read) embed(name string) *Embed {
	if e := r.named(name); e != nil {
		return e
	}
	i := slices.IndexFunc(r.Embeds, func(e *Embed) bool { return e.Target == name })
	if i < 0 {
		return nil
	}
	return r.Embeds[i]
}

// scope applies the filters, the order and the page of one embedded resource.
func (b *builder) scope(scope *query.Scope) error {
	for _, name := range scope.Path {
		e := b.read.embed(name)
		if e == nil {
			return pgrst.NotEmbedded(name)
		}
		b = b.inside(e)
	}
	where, err := b.predicates(scope.Where)
	if err != nil {
		return err
	}
	b.read.Where = append(b.read.Where, where...)
	if b.read.Order, err = b.order(scope.Order); err != nil {
		return err
	}
	if scope.Limit != nil {
		if b.read.Page.Limit = *scope.Limit; *scope.Limit < 0 {
			return pgrst.NegativePage("LIMIT")
		}
		b.read.Page = b.bounded(b.read.Page)
	}
	if scope.Offset != nil {
		if b.read.Page.Offset = *scope.Offset; *scope.Offset < 0 {
			return pgrst.NegativePage("OFFSET")
		}
	}
	return nil
}

// aggregated tells whether a selection of out aggregates rows, by itself or by
// what it takes over from a related one.
func (r *Read) aggregated(out []Output) bool {
	return slices.ContainsFunc(out, func(o Output) bool { return o.Aggregate != query.NoAggregate }) ||
		slices.ContainsFunc(r.Embeds, func(e *Embed) bool { return e.Spread && e.By.ToOne() && e.Read.aggregated(e.Read.Output) })
}
