CREATE OR REPLACE FUNCTION freehold.guard_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $guard$
DECLARE
  operation CONSTANT text := {operation};
  mode text;
  waited boolean := false;
  in_parts boolean;
  patience interval := '10 minutes';
BEGIN
  -- The move's own sessions pass, and the platform's that take away what a role
  -- had: to close a door comes before to copy once. Nobody but a superuser can be
  -- one of them, whatever a session calls itself.
  IF (current_setting('application_name') = {application}
      OR current_setting('application_name') = {platform} AND tg_tag IN ('DROP OWNED', 'REASSIGN OWNED'))
    AND (SELECT rolsuper FROM pg_authid WHERE rolname = session_user) THEN
    RETURN;
  END IF;
  CASE tg_event
  WHEN 'ddl_command_start' THEN
    -- What a command is about is known at its end only, and most are judged
    -- there: by then one that is CONCURRENTLY has committed half of itself. It
    -- can't be run but as the whole text that the client sent.
    in_parts := tg_tag IN ('CREATE INDEX', 'DROP INDEX', 'REINDEX') AND current_query() ~* '\mconcurrently\M'
      OR tg_tag = 'ALTER TABLE' AND current_query() ~* '\mdetach\M.*\mconcurrently\M';
    -- Who waits must see the guard go, and must hold nothing that the move waits for.
    IF tg_tag <> 'REFRESH MATERIALIZED VIEW' AND current_setting('transaction_isolation') = 'read committed'
      AND pg_current_xact_id_if_assigned() IS NULL AND pg_my_temp_schema() = 0 AND current_query() !~* '\m(temp|temporary|pg_temp)\M' THEN
      FOR mode IN SELECT setting FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout') AND setting <> '0' LOOP
        patience := least(patience, mode::integer * interval '0.8 ms'); -- a refusal says more than a timeout
      END LOOP;
      LOOP
        SELECT d.description INTO mode FROM pg_event_trigger t
          LEFT JOIN pg_description d ON d.objoid = t.oid AND d.classoid = 'pg_event_trigger'::regclass
          WHERE t.evtname = 'freehold_move_start';
        IF NOT FOUND THEN
          RETURN; -- the move is over, and the database still this one
        END IF;
        EXIT WHEN mode IS DISTINCT FROM 'wait' OR clock_timestamp() >= statement_timestamp() + patience;
        waited := true;
        PERFORM pg_sleep(0.1);
      END LOOP;
    END IF;
    IF NOT (waited OR in_parts) THEN
      RETURN;
    END IF;
  WHEN 'table_rewrite' THEN -- before the work is done
    PERFORM FROM pg_class WHERE oid = pg_event_trigger_table_rewrite_oid() AND relpersistence <> 't';
  WHEN 'sql_drop' THEN
    PERFORM FROM pg_event_trigger_dropped_objects() WHERE original AND NOT is_temporary;
  ELSE
    PERFORM FROM pg_event_trigger_ddl_commands()
      WHERE schema_name IS DISTINCT FROM 'pg_temp' AND command_tag NOT IN ('REFRESH MATERIALIZED VIEW', 'REINDEX');
  END CASE;
  IF tg_event <> 'ddl_command_start' AND NOT FOUND THEN
    RETURN; -- it changes nothing that others can see
  END IF;
  RAISE EXCEPTION USING ERRCODE = {code},
    MESSAGE = format('%s is refused: this database is being moved to another server (operation %s)', tg_tag, operation),
    DETAIL = 'Changes of the schema are not carried along by a move. Nothing of this statement was done.',
    HINT = format('Run it again when the move is over. An operator can tell when that is (tenant-ops op show %s) and, before its cutover, cancel it (tenant-ops op cancel %s).', operation, operation);
END $guard$;
REVOKE ALL ON FUNCTION freehold.guard_ddl() FROM PUBLIC;
