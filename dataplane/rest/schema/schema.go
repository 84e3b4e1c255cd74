// Package schema holds what the planner must know of a database: relations,
// columns, keys. Databases with the same schema share one [Schema]: it is found
// by the digest of everything it was made of.
//
// Import law: of this module, schema imports internal packages only.
package schema

import (
	"crypto/sha256"
	"slices"
	"strings"
)

// Fingerprint is the SHA-256 of the document a [Schema] was made of. Tenants
// shape their own schemas and share the cache, so it must resist collisions.
type Fingerprint [sha256.Size]byte

// Schema is immutable and shared between databases.
type Schema struct {
	Fingerprint   Fingerprint
	relations     map[Name]*Relation // also those that only show through views
	relationships map[*Relation][]*Relationship
	related       int // how many of them
	functions     map[Name][]*Function
	handlers      map[string]*Handler // of any rows, by media type
	// GeoJSON is the function that makes GeoJSON of a row; nil without PostGIS.
	GeoJSON *Name
	size    int64 // of it all in memory, in bytes, roughly
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
	// Writable has a bit 1<<2 for UPDATE, 1<<3 for INSERT and 1<<4 for DELETE.
	Writable int
	// Plain: no policy guards its rows, and all types are Postgres' own.
	Plain bool
	// Calm: inserting runs no trigger, rule, function or type of the tenant's.
	Calm bool
	// Blind: and what it does run, defaults and checks, reads no setting of the request's session.
	Blind bool
	// handlers make other media types of its rows, by media type.
	handlers map[string]*Handler
	// Computed are the columns that functions of a row make, by name.
	Computed []Column
	// origins are what columns of a view are in the tables underneath.
	origins []origin
	// hidden relations are of no exposed schema.
	hidden bool
}

func (r *Relation) isView() bool { return r.Kind == View || r.Kind == MaterializedView }

type origin struct {
	Column        string
	Schema, Table string
	TableColumn   string
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
	// Function makes the column of a row; nil for one that is stored.
	Function *Function
	// Representation is how the column's domain looks outside; nil when as it is stored.
	Representation *Representation
	// Position orders the columns of a relation that has representations; 0 elsewhere.
	Position int
}

// Representation are a domain's functions to make and to read what clients see
// of its values; each may be nil.
type Representation struct {
	ToJSON, FromJSON, FromText *Name
}

// ForeignKey points from columns of this relation to columns of another.
type ForeignKey struct {
	Constraint string
	Columns    []string
	To         Name
	ToColumns  []string
}

// Relation finds a relation of an exposed schema, or nil.
func (s *Schema) Relation(name Name) *Relation {
	if r := s.relations[name]; r != nil && !r.hidden {
		return r
	}
	return nil
}

// Relations are all of a schema, by name.
func (s *Schema) Relations(schema string) []*Relation {
	var all []*Relation
	for name, r := range s.relations {
		if name.Schema == schema && !r.hidden {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *Relation) int { return strings.Compare(a.Name.Name, b.Name.Name) })
	return all
}

// Represented tells whether a column looks otherwise in JSON than it is stored.
func (r *Relation) Represented() bool {
	return slices.ContainsFunc(r.Columns, func(c Column) bool { return c.Representation != nil && c.Representation.ToJSON != nil })
}

// Column finds a stored column, or nil.
func (r *Relation) Column(name string) *Column { return find(r.Columns, name) }

// Readable finds a column, stored or computed, or nil.
func (r *Relation) Readable(name string) *Column {
	if c := r.Column(name); c != nil {
		return c
	}
	return find(r.Computed, name)
}

func find(columns []Column, name string) *Column {
	i, ok := slices.BinarySearchFunc(columns, name, func(c Column, name string) int { return strings.Compare(c.Name, name) })
	if !ok {
		return nil
	}
	return &columns[i]
}
