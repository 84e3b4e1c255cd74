package schema

import (
	"slices"
	"strings"
)

// Related finds the relationships of a relation that `target!hint` may mean. The
// target is a function or a relation, or (without a hint) a constraint or a
// column of a foreign key between it and a table, not a view of it; the hint is a
// constraint, a column of either side or a junction.
func (s *Schema) Related(from *Relation, target, hint string) []*Relationship {
	var found []*Relationship
	for _, r := range s.relationships[from] {
		if r.leadsTo(target, hint) {
			found = append(found, r)
		}
	}
	return found
}

func (r *Relationship) leadsTo(target, hint string) bool {
	switch {
	case r.Function != nil:
		return r.Function.Name.Name == target && r.Function.Schema == r.From.Schema
	case r.To.Schema != r.From.Schema:
		return false
	case r.From == r.To:
		return r.leadsBack(target, hint)
	case hint != "":
		return r.To.Name.Name == target && r.hinted(hint)
	}
	return r.To.Name.Name == target || !r.To.isView() && r.Junction == nil && (r.Constraint == target || r.single(true) == target)
}

// leadsBack is leadsTo for a relation that refers to itself. Its foreign key
// leads both ways: the relation's name means the rows that have the key, the
// column the row that it points to.
func (r *Relationship) leadsBack(target, hint string) bool {
	switch {
	case r.Junction != nil:
		return false
	case r.Holds:
		return hint == "" && r.single(true) == target
	}
	return r.To.Name.Name == target && (hint == "" || r.single(false) == hint)
}

// single is the column of a foreign key of one: that of From, or that of To.
func (r *Relationship) single(own bool) string {
	switch {
	case len(r.Pairs) != 1:
		return ""
	case own:
		return r.Pairs[0].From
	}
	return r.Pairs[0].To
}

func (r *Relationship) hinted(hint string) bool {
	if r.Junction != nil {
		return r.Junction.Relation.Name.Name == hint
	}
	return r.Constraint == hint || r.single(true) == hint || r.single(false) == hint
}

// Referenced is the table (or else the view of it) and the column that a column
// of a relation refers to by a foreign key of its own.
func (s *Schema) Referenced(from *Relation, column string) (relation, to string, ok bool) {
	for _, r := range s.relationships[from] {
		if r.Holds && r.To.Schema == from.Schema && r.single(true) == column && (!ok || !r.To.isView()) {
			relation, to, ok = r.To.Name.Name, r.single(false), true
			if !r.To.isView() {
				break
			}
		}
	}
	return relation, to, ok
}

// SuggestRelated gives the related relation whose name is nearest, or "" when
// none is near, or one is of just that name.
func (s *Schema) SuggestRelated(from *Relation, target string) string {
	var names []string
	for _, r := range s.relationships[from] {
		names = append(names, r.To.Name.Name)
	}
	slices.Sort(names)
	suggestion, score := nearest(target, slices.Compact(names), akin)
	if score == 1 {
		return ""
	}
	return suggestion
}

// SuggestRelation gives the relation of the same schema whose name is nearest, or "".
func (s *Schema) SuggestRelation(name Name) string {
	names := make([]string, 0, len(s.relations))
	for n, r := range s.relations {
		if n.Schema == name.Schema && !r.hidden {
			names = append(names, n.Name)
		}
	}
	suggestion, _ := nearest(name.Name, names, likely)
	return suggestion
}

// SuggestFunction gives the function of the same schema whose name is nearest, or "".
func (s *Schema) SuggestFunction(name Name) string {
	var names []string
	for n := range s.functions {
		if n.Schema == name.Schema {
			names = append(names, n.Name)
		}
	}
	suggestion, _ := nearest(name.Name, names, likely)
	return suggestion
}

// SuggestArguments gives, of functions with one name, the arguments that are
// nearest to those named by keys, as `(a, b)`, or "".
func SuggestArguments(functions []*Function, keys []string) string {
	list := func(names []string) string {
		slices.Sort(names)
		return "(" + strings.Join(names, ", ") + ")"
	}
	all := make([]string, len(functions))
	for i, f := range functions {
		names := make([]string, len(f.Args))
		for j := range f.Args {
			names[j] = f.Args[j].Name
		}
		all[i] = list(names)
	}
	suggestion, _ := nearest(list(slices.Clone(keys)), all, akin)
	return suggestion
}

// SuggestColumns gives the columns that Postgres would suggest: those with the
// smallest edit distance, if that is at most 3 and at most half of the name, and
// if there are no more than two of them.
func (r *Relation) SuggestColumns(name string) []string {
	const furthest = 3
	var best []string
	nearest := min(furthest, len(name)/2)
	for i := range r.Columns {
		column := r.Columns[i].Name
		if n := len(column) - len(name); n > nearest || -n > nearest {
			continue
		}
		switch d := distance([]rune(column), []rune(name)); {
		case d < nearest:
			best, nearest = []string{column}, d
		case d == nearest:
			best = append(best, column)
		}
	}
	if len(best) > 2 {
		return nil
	}
	return best
}
