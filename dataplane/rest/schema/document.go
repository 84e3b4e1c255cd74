package schema

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

type document struct {
	Relations []documentRelation
	Functions []documentFunction
	Handlers  []documentHandler
	GeoJSON   *string
}

type documentRelation struct {
	Schema, Name, Kind string
	Hidden, Plain      bool
	Calm, Blind        bool
	Writable           int
	Columns            []Column
	Keys               []documentKey
	Origins            []origin
}

type documentKey struct {
	Name, Kind       string
	Columns          []string
	ToSchema, ToName string
	ToColumns        []string
}

type documentFunction struct {
	Schema, Name, Volatility string
	SetOf, One, Composite    bool
	Args                     []documentArg
	Type, Base, Domain       string
	RelationSchema, Relation string
	Columns                  []Column
	Settings                 []string
}

type documentArg struct {
	Name, Mode, Type, Base string
	TableSchema, Table     string
	Optional               bool
}

// Parse makes a Schema of the document that introspection returned.
func Parse(text []byte) (*Schema, error) {
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("introspection: %w", err)
	}
	s := &Schema{
		Fingerprint: sha256.Sum256(text), relations: make(map[Name]*Relation, len(d.Relations)),
		relationships: map[*Relation][]*Relationship{}, functions: map[Name][]*Function{},
	}
	for i := range d.Relations {
		r := d.Relations[i].relation()
		s.relations[r.Name] = r
	}
	for _, r := range s.relations {
		s.viewKey(r)
	}
	s.relate()
	for i := range d.Functions {
		s.addFunction(&d.Functions[i])
	}
	for i := range d.Handlers {
		s.addHandler(&d.Handlers[i])
	}
	if d.GeoJSON != nil {
		s.GeoJSON = &Name{*d.GeoJSON, "st_asgeojson"}
	}
	for _, overloads := range s.functions {
		slices.SortStableFunc(overloads, byArguments)
	}
	for _, r := range s.relations {
		slices.SortFunc(r.Computed, byName)
	}
	s.size = sizeOf(s)
	return s, nil
}

func byName(a, b Column) int { return strings.Compare(a.Name, b.Name) }

func (d *documentRelation) relation() *Relation {
	r := &Relation{Name: Name{d.Schema, d.Name}, Kind: Kind(d.Kind), Columns: d.Columns, Plain: d.Plain, Calm: d.Calm, Blind: d.Calm && d.Blind, Writable: d.Writable, hidden: d.Hidden, origins: d.Origins}
	slices.SortFunc(r.Columns, byName)
	for _, k := range d.Keys {
		switch k.Kind {
		case "p":
			r.PrimaryKey = k.Columns
		case "u":
			r.Unique = append(r.Unique, k.Columns)
		case "f":
			r.ForeignKeys = append(r.ForeignKeys, ForeignKey{Constraint: k.Name, Columns: k.Columns, To: Name{k.ToSchema, k.ToName}, ToColumns: k.ToColumns})
		}
	}
	return r
}

// viewKey gives a view the primary keys that it shows whole.
func (s *Schema) viewKey(view *Relation) {
	var seen []Name
	for _, o := range view.origins {
		table := s.relations[Name{o.Schema, o.Table}]
		if table == nil || len(table.PrimaryKey) == 0 || slices.Contains(seen, table.Name) {
			continue
		}
		seen = append(seen, table.Name)
		if keys := view.showings(table, table.PrimaryKey); len(keys) > 0 {
			view.PrimaryKey = append(view.PrimaryKey, keys[0]...)
		}
	}
}

// maxShowings bounds the ways in which one view shows one key.
const maxShowings = 64

// showings translates columns of a table to those of the view, in every way in
// which it has all of them: a view may show one column several times.
func (r *Relation) showings(table *Relation, columns []string) [][]string {
	if r == table {
		return [][]string{columns}
	}
	all := [][]string{nil}
	for _, column := range columns {
		var longer [][]string
		for _, shown := range all {
			for _, o := range r.origins {
				if o.Schema == table.Schema && o.Table == table.Name.Name && o.TableColumn == column && len(longer) < maxShowings {
					longer = append(longer, append(slices.Clone(shown), o.Column))
				}
			}
		}
		all = longer
	}
	return all
}
