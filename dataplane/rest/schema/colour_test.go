package schema

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What is read of one database stands for others, and who may change his own can
// change the settings of its login, too, and what its sessions keep: none of that
// is noted, and none may show.
func TestNothingUnnotedColoursWhatIsRead(t *testing.T) {
	const sql = `CREATE DOMAIN d AS text; CREATE FUNCTION dj(d) RETURNS json LANGUAGE sql IMMUTABLE AS 'SELECT NULL::json'; CREATE CAST (d AS json) WITH FUNCTION dj AS IMPLICIT;
		CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE "é{b" (id int PRIMARY KEY, d d, m mood, j jsonb DEFAULT '{}', at timestamptz DEFAULT '2026-01-01 00:00:00+00', CHECK (j->>'\a' <> 'é'));
		CREATE VIEW v AS SELECT id AS "a\{b", m FROM "é{b"; CREATE FUNCTION f(a mood) RETURNS SETOF "é{b" LANGUAGE sql STABLE AS 'SELECT * FROM "é{b"'`
	c := noted(t, sql, 42)
	cache := NewCache(Options{})
	look(t, cache, "clean", c)
	want := cache.Lookup("clean", public).Fingerprint
	for _, colour := range []string{
		"SET quote_all_identifiers = on",
		"SET standard_conforming_strings = off",
		"SET backslash_quote = on",
		"SET client_encoding = 'LATIN1'",
		"SET search_path = 'pg_temp'",
		"SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo'; SET IntervalStyle = 'iso_8601'; SET bytea_output = 'escape'; SET extra_float_digits = -5",
		"CREATE DOMAIN pg_temp.text AS bpchar(1000000)",
		"CREATE DOMAIN pg_temp.json AS pg_catalog.int4",
		"CREATE TEMP TABLE pg_class (); CREATE TEMP TABLE pg_proc (); CREATE TEMP TABLE pg_attrdef ()",
		"CREATE FUNCTION pg_temp.st_asgeojson(record) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
	} {
		_, before, err := stampAndMark(t.Context(), c)
		require.NoError(t, err)
		exec(t, c, colour)
		cache = NewCache(Options{})
		_, err = cache.Refresh(t.Context(), "coloured", public, c)
		require.NoError(t, err, colour)
		require.Equal(t, want, cache.Lookup("coloured", public).Fingerprint, colour)
		exec(t, c, "RESET ALL; DISCARD TEMP")
		_, after, err := stampAndMark(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, before, after, "%s is not noted", colour)
	}
}
