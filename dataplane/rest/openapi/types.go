package openapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// column is what access.sql says of one.
type column struct {
	Name, Type, Comment string
	Default             *string
	MaxLength           *int
	Enum                []string
}

// property is the JSON schema of a column.
func (c *column) property(r *schema.Relation) object {
	p := typed(c.Type)
	if c.MaxLength != nil {
		p["maxLength"] = *c.MaxLength
	}
	if c.Enum != nil {
		p["enum"] = c.Enum
	}
	if c.Default != nil {
		p["default"] = *c.Default
	}
	var notes []string
	if c.Comment != "" {
		notes = append(notes, c.Comment)
	}
	if note := keyNote(r, c.Name); note != "" {
		notes = append(notes, note)
	}
	if len(notes) > 0 {
		p["description"] = strings.Join(notes, "\n\n")
	}
	return p
}

// keyNote tells generators of clients about keys, in marks they look for.
func keyNote(r *schema.Relation, name string) string {
	if slices.Contains(r.PrimaryKey, name) {
		return "Note:\nThis is a Primary Key.<pk/>"
	}
	for _, key := range r.ForeignKeys {
		if i := slices.Index(key.Columns, name); i >= 0 && len(key.Columns) == 1 {
			return fmt.Sprintf("Note:\nThis is a Foreign Key to `%s.%s`.<fk table='%s' column='%s'/>", key.To.Name, key.ToColumns[i], key.To.Name, key.ToColumns[i])
		}
	}
	return ""
}

// typed is the JSON type of a type as SQL.
func typed(sql string) object {
	o := object{"format": sql}
	if element, ok := strings.CutSuffix(sql, "[]"); ok {
		items := typed(element)
		delete(items, "format")
		o["type"], o["items"] = "array", items
		return o
	}
	switch sql {
	case "smallint", "integer", "bigint":
		o["type"] = "integer"
	case "numeric", "real", "double precision":
		o["type"] = "number"
	case "boolean":
		o["type"] = "boolean"
	case "json", "jsonb": // anything
	default:
		o["type"] = "string"
	}
	return o
}

// common are the parameters that all relations share.
func common() object {
	query := func(name, description string) object {
		return object{"name": name, "description": description, "required": false, "in": "query", "type": "string"}
	}
	header := func(name, description string, values ...string) object {
		o := object{"name": name, "description": description, "required": false, "in": "header", "type": "string"}
		if len(values) > 0 {
			o["enum"] = values
		}
		return o
	}
	const preference = "Preference"
	unit := header("Range-Unit", "Limiting and Pagination")
	unit["default"] = "items"
	return object{
		"select": query("select", "Filtering Columns"), "order": query("order", "Ordering"),
		"offset": query("offset", "Limiting and Pagination"), "limit": query("limit", "Limiting and Pagination"),
		"on_conflict": query("on_conflict", "On Conflict"),
		"range":       header("Range", "Limiting and Pagination"), "rangeUnit": unit,
		"preferReturn": header("Prefer", preference, "return=representation", "return=minimal", "return=none"),
		"preferCount":  header("Prefer", preference, "count=none"),
		"preferPost": header("Prefer", preference, "return=representation", "return=minimal", "return=none",
			"resolution=ignore-duplicates", "resolution=merge-duplicates"),
	}
}
