package schema

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Cardinality is how many rows relate to how many.
type Cardinality string

const (
	ManyToOne  Cardinality = "many-to-one"
	OneToMany  Cardinality = "one-to-many"
	OneToOne   Cardinality = "one-to-one"
	ManyToMany Cardinality = "many-to-many"
)

// Relationship leads from a relation to the rows of another that belong to one
// of its own: by a foreign key, by two of a junction, or by a function.
type Relationship struct {
	From, To    *Relation
	Cardinality Cardinality
	// Constraint is the foreign key's; "" for the others.
	Constraint string
	Pairs      []Pair
	// Holds: the foreign key is of From, not of To.
	Holds    bool
	Junction *Junction
	// Function makes the rows from one of From; see [Function.SetOf] and One.
	Function *Function
}

// Pair is a column of From and the one of To that must equal it.
type Pair struct{ From, To string }

// Junction is the relation between two that are many-to-many.
type Junction struct {
	Relation       *Relation
	FromConstraint string
	ToConstraint   string
	FromPairs      []Pair // of From and the junction
	ToPairs        []Pair // of the junction and To
}

// ToOne tells whether at most one row is related.
func (r *Relationship) ToOne() bool { return r.Cardinality == ManyToOne || r.Cardinality == OneToOne }

// maxRelationships bounds those of one schema: with many views of one table
// they grow by its square, and it is tenants who make the views.
const maxRelationships = 50_000

// relate derives all relationships from foreign keys: between tables, and
// between views that show both ends.
func (s *Schema) relate() {
	all := slices.SortedFunc(maps.Values(s.relations), func(a, b *Relation) int {
		return cmp.Or(strings.Compare(a.Schema, b.Schema), strings.Compare(a.Name.Name, b.Name.Name))
	})
	views := map[Name][]*Relation{}
	for _, r := range all {
		var last Name
		for _, o := range r.origins {
			if name := (Name{o.Schema, o.Table}); name != last && !slices.Contains(views[name], r) {
				views[name], last = append(views[name], r), name
			}
		}
	}
	shownAs := func(table *Relation) []*Relation {
		if table.hidden {
			return views[table.Name]
		}
		return append([]*Relation{table}, views[table.Name]...)
	}
	for _, table := range all {
		for _, key := range table.ForeignKeys {
			target := s.relations[key.To]
			if target == nil {
				continue
			}
			cardinality := ManyToOne
			if sameSet(key.Columns, table.PrimaryKey) || slices.ContainsFunc(table.Unique, func(u []string) bool { return sameSet(key.Columns, u) }) {
				cardinality = OneToOne
			}
			for _, from := range shownAs(table) {
				for _, own := range from.showings(table, key.Columns) {
					for _, to := range shownAs(target) {
						for _, theirs := range to.showings(target, key.ToColumns) {
							s.addKey(&Relationship{From: from, To: to, Cardinality: cardinality, Constraint: key.Constraint, Pairs: pair(own, theirs), Holds: true})
						}
					}
				}
			}
		}
	}
	for _, r := range all {
		s.addJunctions(r)
	}
	for _, all := range s.relationships {
		slices.SortStableFunc(all, compare)
	}
}

// byCardinality is the order in which relationships to one relation are named.
var byCardinality = []Cardinality{OneToMany, ManyToOne, OneToOne, ManyToMany}

func compare(a, b *Relationship) int {
	junction := func(r *Relationship) string {
		if r.Junction == nil {
			return ""
		}
		return r.Junction.Relation.String() + " " + r.Junction.FromConstraint + " " + r.Junction.ToConstraint
	}
	return cmp.Or(strings.Compare(a.To.Schema, b.To.Schema), strings.Compare(a.To.Name.Name, b.To.Name.Name),
		slices.Index(byCardinality, a.Cardinality)-slices.Index(byCardinality, b.Cardinality), strings.Compare(a.Constraint, b.Constraint),
		slices.CompareFunc(a.Pairs, b.Pairs, func(x, y Pair) int { return cmp.Or(strings.Compare(x.From, y.From), strings.Compare(x.To, y.To)) }),
		strings.Compare(junction(a), junction(b)))
}

// addKey adds a relationship and its inverse.
func (s *Schema) addKey(r *Relationship) {
	if s.related += 2; s.related > maxRelationships {
		return
	}
	inverse := &Relationship{From: r.To, To: r.From, Cardinality: r.Cardinality, Constraint: r.Constraint, Pairs: turned(r.Pairs)}
	if r.Cardinality == ManyToOne {
		inverse.Cardinality = OneToMany
	}
	s.relationships[r.From] = append(s.relationships[r.From], r)
	s.relationships[r.To] = append(s.relationships[r.To], inverse)
}

// addJunctions makes a relation whose primary key holds two foreign keys a way between the two.
func (s *Schema) addJunctions(junction *Relation) {
	var keys []*Relationship
	for _, r := range s.relationships[junction] {
		if r.Holds && r.Cardinality == ManyToOne && !slices.ContainsFunc(r.Pairs, func(p Pair) bool { return !slices.Contains(junction.PrimaryKey, p.From) }) {
			keys = append(keys, r)
		}
	}
	for _, a := range keys {
		for _, b := range keys {
			if a.Constraint == b.Constraint {
				continue
			}
			if s.related++; s.related > maxRelationships {
				return
			}
			s.relationships[a.To] = append(s.relationships[a.To], &Relationship{From: a.To, To: b.To, Cardinality: ManyToMany, Junction: &Junction{
				Relation: junction, FromConstraint: a.Constraint, ToConstraint: b.Constraint, FromPairs: turned(a.Pairs), ToPairs: b.Pairs,
			}})
		}
	}
}

func pair(from, to []string) []Pair {
	pairs := make([]Pair, len(from))
	for i := range from {
		pairs[i] = Pair{from[i], to[i]}
	}
	return pairs
}

func turned(pairs []Pair) []Pair {
	other := make([]Pair, len(pairs))
	for i, p := range pairs {
		other[i] = Pair{p.To, p.From}
	}
	return other
}

func sameSet(a, b []string) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(name string) bool { return !slices.Contains(b, name) })
}
