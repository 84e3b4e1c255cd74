-- Each request asks. An aggregate's HAVING alone is a third cheaper than an expression around a subquery.
CREATE OR REPLACE FUNCTION freehold.expect(stamp bigint) RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
  PERFORM FROM freehold.schema_change c HAVING coalesce(pg_catalog.bit_xor(c.stamp), 0) OPERATOR(pg_catalog.<>) $1;
  IF FOUND THEN
    RAISE EXCEPTION 'the schema has changed' USING ERRCODE = 'FH001';
  END IF;
END $$;
COMMENT ON FUNCTION freehold.expect(bigint) IS 'fails unless the schema is the one that was read with this stamp';
GRANT EXECUTE ON FUNCTION freehold.expect(bigint) TO PUBLIC;
