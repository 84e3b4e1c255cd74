package plan

// castTypes are the types that `::type` may name. A type's name cannot be a
// parameter nor, for many, be quoted, so the SQL comes from here and never from
// the request.
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
