package plan

import (
	"slices"
	"strings"

	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
)

// castTypes are Postgres' own types by the names that `::type` may have.
var castTypes = func() map[string]string {
	types := map[string]string{
		"int": "int4", "integer": "int4", "smallint": "int2", "bigint": "int8",
		"real": "float4", "float": "float8", "double precision": "float8",
		"decimal": "numeric", "boolean": "bool", "character varying": "varchar",
		"timestamp with time zone": "timestamptz", "timestamp without time zone": "timestamp",
		"time with time zone": "timetz", "time without time zone": "time",
	}
	for _, t := range []string{
		"int2", "int4", "int8", "float4", "float8", "numeric", "money", "bool",
		"text", "varchar", "bpchar", "name", "uuid", "bytea", "json", "jsonb", "xml",
		"date", "time", "timetz", "timestamp", "timestamptz", "interval",
		"inet", "cidr", "macaddr", "macaddr8", "tsvector", "tsquery",
		"int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange",
	} {
		types[t] = t
	}
	for name, t := range types {
		types[name] = "pg_catalog." + t
	}
	return types
}()

// castTo is the SQL of a type. It is never what a client wrote: a name that is
// not one of those above is quoted, and so can be that of a type only. Types
// that show what else is on the server, such as its roles, are not there.
func castTo(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	known := strings.Join(strings.Fields(strings.ToLower(name)), " ")
	if cast, ok := castTypes[known]; ok {
		return cast, nil
	}
	for _, hidden := range [...]string{"reg", "pg_", "aclitem"} {
		if strings.HasPrefix(strings.TrimPrefix(known, "_"), hidden) {
			return "", pgrst.UnknownType(name)
		}
	}
	return `"` + strings.ReplaceAll(known, `"`, `""`) + `"`, nil
}

// ownCast tells whether a type is one of the tenant's.
func ownCast(cast string) bool { return strings.HasPrefix(cast, `"`) }

// casts tells whether r casts to a type of the tenant's.
func (r *Read) casts() bool {
	return slices.ContainsFunc(r.Output, func(o Output) bool { return ownCast(o.Cast) || ownCast(o.AggregateCast) })
}
