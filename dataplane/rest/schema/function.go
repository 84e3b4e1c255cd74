package schema

import (
	"cmp"
	"slices"
	"strings"
)

// Function is one that can be called.
type Function struct {
	Name
	// Args are those that a caller gives.
	Args []Arg
	// Volatile functions may write.
	Volatile bool
	// SetOf functions return any number of rows, or at most one when One.
	SetOf, One bool
	// Type is what it returns as SQL, Base the bare name (of the base type for a
	// domain, whose name is Domain).
	Type, Base, Domain string
	// Rows has the columns of the rows that it returns; nil for scalars. It is a
	// relation of the schema when the function returns rows of one.
	Rows *Relation
	// Settings are those of its own (CREATE FUNCTION … SET), but for the search path, in their order.
	Settings []Setting
}

// Setting is one that a function sets while it runs.
type Setting struct{ Name, Value string }

// Arg is an argument; a positional one has no name.
type Arg struct {
	Name, Type, Base   string
	Optional, Variadic bool
}

// TypeIn is the type for people to read, without the schema when that is schema or public.
func (a *Arg) TypeIn(schema string) string {
	element, array := strings.CutSuffix(a.Type, "[]")
	switch element {
	case "bpchar":
		element = "character"
	case `"bit"`:
		element = "bit"
	}
	element = strings.TrimPrefix(strings.TrimPrefix(element, schema+"."), "public.")
	if array {
		element += "[]"
	}
	return element
}

// Void tells whether nothing is returned.
func (f *Function) Void() bool { return f.Base == "void" }

// Functions are all of one name.
func (s *Schema) Functions(name Name) []*Function { return s.functions[name] }

// AllFunctions are all of a schema, by name.
func (s *Schema) AllFunctions(schema string) []*Function {
	var all []*Function
	for name, functions := range s.functions {
		if name.Schema == schema {
			all = append(all, functions...)
		}
	}
	slices.SortStableFunc(all, func(a, b *Function) int { return strings.Compare(a.Name.Name, b.Name.Name) })
	return all
}

func (s *Schema) addFunction(d *documentFunction) {
	f := &Function{Name: Name{d.Schema, d.Name}, Volatile: d.Volatility == "v", SetOf: d.SetOf, One: d.One, Type: d.Type, Base: d.Base, Domain: d.Domain}
	for _, s := range d.Settings {
		name, value, _ := strings.Cut(s, "=")
		f.Settings = append(f.Settings, Setting{name, value})
	}
	var out []Column
	for _, a := range d.Args {
		if strings.Contains("ibv", a.Mode) {
			f.Args = append(f.Args, Arg{Name: a.Name, Type: a.Type, Base: a.Base, Optional: a.Optional, Variadic: a.Mode == "v"})
		}
		if strings.Contains("bot", a.Mode) {
			out = append(out, Column{Name: a.Name, Type: a.Type, Base: a.Base, Nullable: true})
		}
	}
	switch relation := s.Relation(Name{d.RelationSchema, d.Relation}); {
	case len(out) > 0:
		f.Rows = &Relation{Name: f.Name, Columns: out}
	case relation != nil:
		f.Rows = relation
	case d.Composite || d.Base == "record":
		f.Rows = &Relation{Name: f.Name, Columns: d.Columns}
	}
	if f.Rows != nil {
		slices.SortFunc(f.Rows.Columns, byName)
	}
	if f.callable() {
		s.functions[f.Name] = append(s.functions[f.Name], f)
	}
	if len(d.Args) == 1 {
		s.addComputed(f, Name{d.Args[0].TableSchema, d.Args[0].Table})
	}
}

// callable tells whether all arguments have names, but for one that can be a body.
func (f *Function) callable() bool {
	unnamed := 0
	for _, a := range f.Args {
		if a.Name != "" {
			continue
		}
		if unnamed++; unnamed > 1 || !slices.Contains([]string{"bytea", "json", "jsonb", "text", "xml"}, a.Base) {
			return false
		}
	}
	return true
}

// byArguments is the order in which functions of one name are looked at.
func byArguments(a, b *Function) int {
	return cmp.Or(len(a.Args)-len(b.Args), slices.CompareFunc(a.Args, b.Args, func(x, y Arg) int {
		return cmp.Or(strings.Compare(x.Name, y.Name), strings.Compare(x.Type, y.Type))
	}))
}

// addComputed makes a function of one row a column of its relation, or a
// relationship when it returns rows of another.
func (s *Schema) addComputed(f *Function, of Name) {
	relation := s.Relation(of)
	switch {
	case relation == nil || f.Void():
	case f.Rows == nil && !f.SetOf:
		relation.Computed = append(relation.Computed, Column{Name: f.Name.Name, Type: f.Type, Base: f.Base, Nullable: true, Function: f})
	case f.Rows != nil && f.Rows == s.Relation(f.Rows.Name):
		s.addComputedRelationship(relation, f)
	}
}

// addComputedRelationship adds the one that f makes, in place of those that
// foreign keys make to a relation of f's name.
func (s *Schema) addComputedRelationship(from *Relation, f *Function) {
	cardinality := OneToMany
	if f.One || !f.SetOf {
		cardinality = OneToOne
	}
	others := slices.DeleteFunc(s.relationships[from], func(r *Relationship) bool { return r.Function == nil && r.To.Name == f.Name })
	s.relationships[from] = append(others, &Relationship{From: from, To: f.Rows, Cardinality: cardinality, Function: f})
}
