package openapi

import (
	"encoding/json"
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
func (c *column) property(s *schema.Schema, r *schema.Relation) object {
	p := typed(c.Type)
	if c.MaxLength != nil {
		p["maxLength"] = *c.MaxLength
	}
	if c.Enum != nil {
		p["enum"] = c.Enum
	}
	if c.Default != nil {
		if value, ok := defaultOf(p["type"], c.Type, *c.Default); ok {
			p["default"] = value
		}
	}
	notes := keyNotes(s, r, c.Name)
	switch {
	case notes == "":
		notes = c.Comment
	case c.Comment != "":
		notes = c.Comment + "\n\n" + notes
	}
	if notes != "" {
		p["description"] = notes
	}
	return p
}

// defaultOf is an expression as a value of a type, when it is one: for those
// that are text in JSON any is.
func defaultOf(jsonType any, sqlType, expression string) (any, bool) {
	if jsonType == "string" {
		if text, ok := strings.CutSuffix(expression, "::"+sqlType); ok {
			expression = strings.Trim(text, "'")
		}
		return expression, true
	}
	var value any
	return value, json.Unmarshal([]byte(expression), &value) == nil && value != nil
}

// keyNotes tell generators of clients about keys, in marks they look for.
func keyNotes(s *schema.Schema, r *schema.Relation, name string) string {
	notes := ""
	if slices.Contains(r.PrimaryKey, name) {
		notes += "\nThis is a Primary Key.<pk/>"
	}
	if to, column, ok := s.Referenced(r, name); ok {
		notes += fmt.Sprintf("\nThis is a Foreign Key to `%s.%s`.<fk table='%s' column='%s'/>", to, column, to, column)
	}
	if notes != "" {
		notes = "Note:" + notes
	}
	return notes
}

// jsonType is the JSON type of a type as SQL, "" for any.
func jsonType(sql string) string {
	switch sql {
	case "smallint", "integer", "bigint":
		return "integer"
	case "numeric", "real", "double precision":
		return "number"
	case "boolean":
		return "boolean"
	case "json", "jsonb":
		return ""
	}
	if strings.HasSuffix(sql, "[]") {
		return "array"
	}
	return "string"
}

// format is the name of a type as SQL; integers have one that says their size.
func format(sql string) string {
	switch sql {
	case "smallint", "integer":
		return "int32"
	case "bigint":
		return "int64"
	}
	return sql
}

// typed is the JSON schema of a type as SQL.
func typed(sql string) object {
	o := object{"format": format(sql)}
	t := jsonType(sql)
	if t != "" {
		o["type"] = t
	}
	if t == "array" {
		items := object{}
		if element := jsonType(strings.TrimSuffix(sql, "[]")); element != "" {
			items["type"] = element
		}
		o["items"] = items
	}
	return o
}

// inQuery is an argument as a parameter of a URL, where arrays are text.
func inQuery(a *schema.Arg, sql string) object {
	p := object{"name": a.Name, "in": "query", "required": !a.Optional}
	t := jsonType(sql)
	switch {
	case a.Variadic:
		element := strings.TrimSuffix(sql, "[]")
		items := object{"format": format(element)}
		if of := jsonType(element); of != "" {
			items["type"] = of
		}
		p["type"], p["collectionFormat"], p["items"] = "array", "multi", items
		return p
	case t == "array" || t == "":
		t = "string"
	}
	p["type"], p["format"] = t, format(sql)
	return p
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
		"preferParams": header("Prefer", preference),
		"select":       query("select", "Filtering Columns"), "order": query("order", "Ordering"),
		"offset": query("offset", "Limiting and Pagination"), "limit": query("limit", "Limiting and Pagination"),
		"on_conflict": query("on_conflict", "On Conflict"),
		"range":       header("Range", "Limiting and Pagination"), "rangeUnit": unit,
		"preferReturn": header("Prefer", preference, "return=representation", "return=minimal", "return=none"),
		"preferCount":  header("Prefer", preference, "count=none"),
		"preferPost": header("Prefer", preference, "return=representation", "return=minimal", "return=none",
			"resolution=ignore-duplicates", "resolution=merge-duplicates"),
	}
}
