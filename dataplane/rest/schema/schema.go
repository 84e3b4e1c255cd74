// Package schema holds what the planner must know of a database: relations,
// columns, keys. Databases with the same schema share one [Schema]: it is found
// by the digest of everything it was made of.
//
// Import law: of this module, schema imports nothing.
package schema

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Fingerprint is the SHA-256 of the document a [Schema] was made of. Tenants
// shape their own schemas and share the cache, so it must resist collisions.
type Fingerprint [sha256.Size]byte

// Schema is immutable and shared between databases.
type Schema struct {
	Fingerprint Fingerprint
	relations   map[Name]*Relation
}

// Name is a qualified name.
type Name struct{ Schema, Name string }

// String is `schema.name`, for messages only.
func (n Name) String() string { return n.Schema + "." + n.Name }

// Kind is pg_class.relkind.
type Kind string

const (
	Table            Kind = "r"
	PartitionedTable Kind = "p"
	View             Kind = "v"
	MaterializedView Kind = "m"
	ForeignTable     Kind = "f"
)

// Relation is a table or a view.
type Relation struct {
	Name
	Kind    Kind
	Columns []Column // by name
	// PrimaryKey names its columns in the key's order; nil when there is none.
	PrimaryKey []string
	// Unique holds the columns of each unique constraint.
	Unique      [][]string
	ForeignKeys []ForeignKey
}

// Column is a column of a relation.
type Column struct {
	Name string
	// Type is its type as SQL, Base the type's bare name (of the base type for a domain).
	Type, Base string
	Nullable   bool
	HasDefault bool
	// Identity is true for GENERATED … AS IDENTITY, Generated for a stored expression.
	Identity, Generated bool
	// DomainNotNull: its type is a domain that refuses null, even as a part of a row that is only read.
	DomainNotNull bool
}

// ForeignKey points from columns of this relation to columns of another.
type ForeignKey struct {
	Constraint string
	Columns    []string
	To         Name
	ToColumns  []string
}

// Relation finds a relation of an exposed schema, or nil.
func (s *Schema) Relation(name Name) *Relation { return s.relations[name] }

// Column finds a column, or nil.
func (r *Relation) Column(name string) *Column {
	i, ok := slices.BinarySearchFunc(r.Columns, name, func(c Column, name string) int { return strings.Compare(c.Name, name) })
	if !ok {
		return nil
	}
	return &r.Columns[i]
}

// SuggestRelation gives the relation of the same schema whose name is nearest, if any is near.
func (s *Schema) SuggestRelation(name Name) (string, bool) {
	names := make([]string, 0, len(s.relations))
	for n := range s.relations {
		if n.Schema == name.Schema {
			names = append(names, n.Name)
		}
	}
	return nearest(name.Name, names)
}

// SuggestColumn gives the column whose name is nearest, if any is near.
func (r *Relation) SuggestColumn(name string) (string, bool) {
	names := make([]string, len(r.Columns))
	for i := range r.Columns {
		names[i] = r.Columns[i].Name
	}
	return nearest(name, names)
}

// Parse makes a Schema of the document that introspection returned.
func Parse(document []byte) (*Schema, error) {
	var rows []struct {
		Schema, Name, Kind string
		Columns            []Column
		Keys               []struct {
			Name, Kind       string
			Columns          []string
			ToSchema, ToName string
			ToColumns        []string
		}
	}
	if err := json.Unmarshal(document, &rows); err != nil {
		return nil, fmt.Errorf("introspection: %w", err)
	}
	s := &Schema{Fingerprint: sha256.Sum256(document), relations: make(map[Name]*Relation, len(rows))}
	for _, row := range rows {
		r := &Relation{Name: Name{row.Schema, row.Name}, Kind: Kind(row.Kind), Columns: row.Columns}
		slices.SortFunc(r.Columns, func(a, b Column) int { return strings.Compare(a.Name, b.Name) })
		for _, k := range row.Keys {
			switch k.Kind {
			case "p":
				r.PrimaryKey = k.Columns
			case "u":
				r.Unique = append(r.Unique, k.Columns)
			case "f":
				r.ForeignKeys = append(r.ForeignKeys, ForeignKey{Constraint: k.Name, Columns: k.Columns, To: Name{k.ToSchema, k.ToName}, ToColumns: k.ToColumns})
			}
		}
		s.relations[r.Name] = r
	}
	return s, nil
}
