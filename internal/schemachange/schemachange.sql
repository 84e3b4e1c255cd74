GRANT USAGE ON SCHEMA freehold TO PUBLIC;

CREATE TABLE freehold.schema_change (xid xid8 PRIMARY KEY, stamp bigint NOT NULL);
COMMENT ON TABLE freehold.schema_change IS 'the latest transactions that changed the schema, so that its readers notice';
GRANT SELECT ON freehold.schema_change TO PUBLIC;

CREATE FUNCTION freehold.note_schema_change() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Temporary objects are nobody else's schema, the platform's own are in nobody's. GRANT and the like name no schema.
  IF tg_event = 'ddl_command_end' THEN
    PERFORM FROM pg_event_trigger_ddl_commands() WHERE coalesce(schema_name, '') NOT IN ('pg_temp', 'freehold')
      AND command_tag <> 'REFRESH MATERIALIZED VIEW' AND object_type NOT LIKE 'publication%';
  ELSE
    PERFORM FROM pg_event_trigger_dropped_objects() WHERE NOT is_temporary AND schema_name IS DISTINCT FROM 'freehold' AND object_type NOT LIKE 'publication%';
  END IF;
  IF NOT FOUND OR (current_setting('freehold.unnoted', true) = 'on' AND EXISTS (SELECT FROM pg_roles WHERE rolname = session_user AND rolsuper)) THEN
    RETURN;
  END IF;
  INSERT INTO freehold.schema_change VALUES (pg_current_xact_id(), ('x' || left(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint)
    ON CONFLICT DO NOTHING;
  IF FOUND AND current_setting('transaction_isolation') = 'read committed' AND (SELECT count(*) FROM freehold.schema_change) > 16 THEN
    -- What is old goes, but for what somebody else is just removing. Readers see another number either way.
    DELETE FROM freehold.schema_change WHERE xid IN (
      SELECT xid FROM freehold.schema_change WHERE xid < pg_snapshot_xmin(pg_current_snapshot()) FOR UPDATE SKIP LOCKED);
  END IF;
END $$;
REVOKE ALL ON FUNCTION freehold.note_schema_change() FROM PUBLIC;

CREATE EVENT TRIGGER freehold_schema_change ON ddl_command_end EXECUTE FUNCTION freehold.note_schema_change();
CREATE EVENT TRIGGER freehold_schema_drop ON sql_drop EXECUTE FUNCTION freehold.note_schema_change();
-- Whatever session_replication_role says.
ALTER EVENT TRIGGER freehold_schema_change ENABLE ALWAYS;
ALTER EVENT TRIGGER freehold_schema_drop ENABLE ALWAYS;
