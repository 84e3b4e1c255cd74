package schemachange

// StampAndMark reads the number of [Stamp], and what tells this set of noted
// changes from any other: databases made from one template in which nothing was
// changed since have the same mark, and so the same schema. The stamp does not
// prove that, for it is a sum: who may change a schema could pick, of many changes,
// those that add up to nothing. Nobody can bring a mark about: each change adds a
// number that he does not choose. It is null where none was noted.
const StampAndMark = `SELECT coalesce(pg_catalog.bit_xor(stamp), 0), pg_catalog.sha256(pg_catalog.string_agg(pg_catalog.int8send(stamp), '' ORDER BY stamp))
  FROM freehold.schema_change`
