// Package openapi describes a schema as its caller may use it: an OpenAPI 2.0
// document in the form that PostgREST gives it, which generators of clients know.
//
// Import law: of this module, openapi imports dataplane/rest/schema only.
package openapi

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// AccessSQL returns as one text what the current role may use of the schema
// named by its first parameter, or all of it if the second is true; it is what
// [Document] takes.
//
//go:embed access.sql
var AccessSQL string

// object is a JSON object; encoding sorts its keys.
type object = map[string]any

type access struct {
	Comment   string
	Relations map[string]relationAccess
	Functions map[string]*string
}

type relationAccess struct {
	Comment string
	Columns []column
}

// Document describes schema name of s to a caller whose access AccessSQL
// returned. basePath is where it is served.
func Document(s *schema.Schema, name, basePath string, accessText []byte) ([]byte, error) {
	var a access
	if err := json.Unmarshal(accessText, &a); err != nil {
		return nil, fmt.Errorf("openapi: what the caller may use: %w", err)
	}
	title, description := summary(a.Comment)
	if title == "" {
		title = "REST API"
	}
	if description == "" {
		description = "Generated from the database's schema"
	}
	d := document{schema: s, name: name, paths: object{"/": root()}, definitions: object{}, parameters: common()}
	for _, r := range s.Relations(name) {
		if granted, ok := a.Relations[r.Name.Name]; ok {
			d.relation(r, &granted)
		}
	}
	for _, f := range s.AllFunctions(name) {
		if comment, ok := a.Functions[f.Name.Name]; ok {
			d.function(f, comment)
		}
	}
	text, err := json.Marshal(object{
		"swagger": "2.0", "info": object{"title": title, "description": description, "version": "1"},
		"externalDocs": object{"description": "PostgREST Documentation", "url": "https://postgrest.org/en/v14/references/api.html"},
		"basePath":     basePath, "schemes": []string{"https", "http"}, "consumes": forms, "produces": forms,
		"paths": d.paths, "definitions": d.definitions, "parameters": d.parameters,
	})
	if err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	return text, nil
}

var forms = []string{"application/json", "application/vnd.pgrst.object+json;nulls=stripped", "application/vnd.pgrst.object+json", "text/csv"}

// summary splits a comment into its first line and what follows.
func summary(comment string) (first, rest string) {
	first, rest, _ = strings.Cut(comment, "\n")
	return first, strings.TrimLeft(rest, "\n")
}

// described adds a comment to an operation: a summary when it has several lines.
func described(o object, comment string) object {
	switch first, rest := summary(comment); {
	case first == "":
	case rest == "":
		o["summary"] = first
	default:
		o["summary"], o["description"] = first, rest
	}
	return o
}

func root() object {
	return object{"get": object{
		"tags": []string{"Introspection"}, "summary": "OpenAPI description (this document)",
		"produces": []string{"application/openapi+json", "application/json"}, "responses": responses(200, "OK"),
	}}
}

func responses(status int, description string) object {
	return object{fmt.Sprint(status): object{"description": description}}
}

type document struct {
	schema                         *schema.Schema
	name                           string // of the schema described
	paths, definitions, parameters object
}

func ref(to string) object { return object{"$ref": "#/" + to} }

func refs(names ...string) []object {
	all := make([]object, len(names))
	for i, name := range names {
		all[i] = ref("parameters/" + name)
	}
	return all
}

// relation adds the path of a table or view, and what its verbs refer to.
func (d *document) relation(r *schema.Relation, granted *relationAccess) {
	name := r.Name.Name
	var filters []object
	properties, required := object{}, []string{}
	for i := range granted.Columns {
		c := &granted.Columns[i]
		known := r.Column(c.Name)
		if known == nil { // newer than the schema
			continue
		}
		properties[c.Name] = c.property(d.schema, r)
		if !known.Nullable {
			required = append(required, c.Name)
		}
		filter := "rowFilter." + name + "." + c.Name
		parameter := object{"name": c.Name, "required": false, "in": "query", "type": "string"}
		if c.Comment != "" {
			parameter["description"] = c.Comment
		}
		d.parameters[filter] = parameter
		filters = append(filters, ref("parameters/"+filter))
	}
	definition := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		definition["required"] = required
	}
	if granted.Comment != "" {
		definition["description"] = granted.Comment
	}
	d.definitions[name] = definition
	body := "body." + name
	d.parameters[body] = object{"name": name, "description": name, "required": false, "in": "body", "schema": ref("definitions/" + name)}

	verb := func(parameters []object, answers object) object {
		return described(object{"tags": []string{name}, "parameters": parameters, "responses": answers}, granted.Comment)
	}
	rows := object{
		"200": object{"description": "OK", "schema": object{"type": "array", "items": ref("definitions/" + name)}},
		"206": object{"description": "Partial Content"},
	}
	path := object{"get": verb(append(clone(filters), refs("select", "order", "range", "rangeUnit", "offset", "limit", "preferCount")...), rows)}
	if r.Writable&(1<<2|1<<3|1<<4) != 0 {
		path["post"] = verb(refs(body, "select", "preferPost"), responses(201, "Created"))
		path["patch"] = verb(append(clone(filters), refs(body, "preferReturn")...), responses(204, "No Content"))
		path["delete"] = verb(append(clone(filters), refs("preferReturn")...), responses(204, "No Content"))
	}
	d.paths["/"+name] = path
}

func clone(all []object) []object { return append([]object{}, all...) }

// function adds the path of a function; of overloads the last one counts.
func (d *document) function(f *schema.Function, comment *string) {
	properties, required, query := object{}, []string{}, []object{}
	for i := range f.Args {
		a := &f.Args[i]
		if a.Name == "" {
			continue
		}
		sql := a.TypeIn(d.name)
		properties[a.Name] = typed(sql)
		if !a.Optional {
			required = append(required, a.Name)
		}
		query = append(query, inQuery(a, sql))
	}
	text := ""
	if comment != nil {
		text = *comment
	}
	args := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		args["required"] = required
	}
	if text != "" {
		args["description"] = text
	}
	verb := func(parameters []object) object {
		return described(object{
			"tags": []string{"(rpc) " + f.Name.Name}, "produces": forms[:3], "responses": responses(200, "OK"), "parameters": parameters,
		}, text)
	}
	path := object{"post": verb([]object{{"name": "args", "in": "body", "required": true, "schema": args}, ref("parameters/preferParams")})}
	if !f.Volatile {
		path["get"] = verb(query)
	}
	d.paths["/rpc/"+f.Name.Name] = path
}
