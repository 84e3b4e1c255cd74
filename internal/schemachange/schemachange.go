// Package schemachange is how whoever has read a tenant's schema finds out, in
// the same round trip as its next statement, that the schema is another one by
// now. Both planes must agree on it: the control plane puts [SQL] into every
// database, the data plane's requests begin with [Expect].
//
// Event triggers note every transaction that changes the schema as a row of its
// own, which becomes visible together with the change. The rows' stamps make one
// number together; whoever read the schema remembers it and expects it still.
// Transactions never wait for each other, as they would for one counter.
//
// Import law: of this module, schemachange imports nothing.
package schemachange

import _ "embed"

// SQL makes what [Stamp] and [Expect] need, once per database and by a
// superuser. It wants the schema freehold to be there, and lets PUBLIC use it.
var SQL = changes + ExpectSQL

//go:embed schemachange.sql
var changes string

// ExpectSQL makes what [Expect] calls, anew where it is there.
//
//go:embed expect.sql
var ExpectSQL string

const (
	// Stamp reads the number. Read it before the schema, or in one statement
	// with it, so that a change in between is noticed by the next [Expect].
	Stamp = `SELECT coalesce(pg_catalog.bit_xor(stamp), 0) FROM freehold.schema_change`
	// Expect is an expression that fails with [Code] unless the parameter $1,
	// a number that was read by [Stamp], is the number still.
	Expect = `freehold.expect($1)`
	// Code is the SQLSTATE of that failure: nothing after it in the transaction was executed.
	Code = "FH001"
	// TriggerPrefix begins the names of the event triggers; they are no part of a tenant's schema.
	TriggerPrefix = "freehold_"
)

// Known is whether the database has stamps: one that was made before there were any has not.
const Known = `SELECT pg_catalog.to_regclass('freehold.schema_change') IS NOT NULL`

// Vouch gives a database the stamp $1 in place of $2, for a superuser who knows
// that its schema, when the stamp was $2, was the one that is read with $1 at
// another place: who knows that one by its stamp need not read it again here. A
// change noted since, or one that is not committed yet, makes it neither of the two.
const Vouch = `INSERT INTO freehold.schema_change VALUES (pg_catalog.pg_current_xact_id(), $1::bigint OPERATOR(pg_catalog.#) $2::bigint)`

// Unnoted is for a superuser's transaction that changes what readers of the
// schema don't mind, like a table's replica identity: none of it is noted, and
// no node has to read the schema again.
const Unnoted = `SET LOCAL freehold.unnoted = 'on'`

// Mute has a superuser make a whole schema without each statement being noted,
// which would triple the time; nobody else may be there. Unmute takes it up
// again, and notes that the schema is another one now.
const (
	Mute   = before + `DISABLE` + after
	Unmute = before + `ENABLE ALWAYS` + after + `;
INSERT INTO freehold.schema_change VALUES (pg_catalog.pg_current_xact_id(), pg_catalog.hashtextextended(pg_catalog.gen_random_uuid()::text, 0)) ON CONFLICT DO NOTHING`

	before = `DO $$ DECLARE t name; BEGIN
  FOR t IN SELECT evtname FROM pg_catalog.pg_event_trigger WHERE evtname IN ('freehold_schema_change', 'freehold_schema_drop') LOOP
    EXECUTE pg_catalog.format('ALTER EVENT TRIGGER %I `
	after = `', t);
  END LOOP; END $$`
)
