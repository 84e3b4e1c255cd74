-- A database holding a little of everything that a move must carry. It is run
-- as the owner role of a tenant's database; roles are named after it.

COMMENT ON SCHEMA public IS 'the application';
CREATE SCHEMA every;
CREATE SCHEMA "Über schema";
COMMENT ON SCHEMA "Über schema" IS 'a name that needs quoting';
CREATE EXTENSION pg_trgm WITH SCHEMA public;
CREATE EXTENSION hstore WITH SCHEMA public;
CREATE EXTENSION citext WITH SCHEMA public;

SET search_path = every, public;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
ALTER TYPE mood ADD VALUE 'very happy' AFTER 'happy';
CREATE TYPE pair AS (x int, y text);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE DOMAIN positive AS int CHECK (VALUE > 0) DEFAULT 1;
COMMENT ON DOMAIN positive IS 'more than nothing';
CREATE COLLATION nordic (provider = icu, locale = 'sv');

CREATE FUNCTION double(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO every.notes (what) VALUES (TG_OP || ' on ' || TG_TABLE_NAME);
  RETURN NEW;
END $$;
CREATE PROCEDURE nothing() LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE AGGREGATE product (int) (sfunc = int4mul, stype = int, initcond = '1');
COMMENT ON FUNCTION note() IS 'writes a note; it must fire once for each change, not once more at the target';

CREATE TABLE notes (what text, at timestamptz DEFAULT now()); -- no key, rows may be doubled

CREATE TABLE accounts (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  email citext NOT NULL UNIQUE,
  feeling mood NOT NULL DEFAULT 'ok',
  feelings mood[] DEFAULT '{sad,happy}',
  size positive,
  at pair DEFAULT ROW(1, 'one'),
  pairs pair[],
  reach span DEFAULT '[1,2)',
  tags hstore DEFAULT 'a=>1',
  doc jsonb,
  search tsvector GENERATED ALWAYS AS (to_tsvector('simple', email::text)) STORED,
  twice int GENERATED ALWAYS AS (double(size)) STORED,
  blob bytea,
  net inet, price money, amount numeric(20, 4), ratio float8, small float4, span interval, day date, tz timestamptz, plain timestamp, u uuid DEFAULT gen_random_uuid(),
  bits bit varying(10), shape box, place point, class regclass, kind regtype,
  name text COLLATE nordic
);
COMMENT ON TABLE accounts IS 'with a comment''s quote';
COMMENT ON COLUMN accounts.email IS E'two\nlines; -- Name: evil; Type: TABLE';
ALTER TABLE accounts ALTER COLUMN doc SET STORAGE EXTERNAL;
ALTER TABLE accounts ALTER COLUMN name SET STATISTICS 500;
ALTER TABLE accounts SET (fillfactor = 90);
INSERT INTO accounts (email, size, pairs, doc, blob, net, price, amount, ratio, small, span, day, tz, plain, bits, shape, place, class, kind, name)
SELECT 'user' || i || '@example.com', 1 + i % 7, ARRAY[ROW(i, 'p')::pair], jsonb_build_object('i', i, 's', repeat('x', i % 50)), decode(md5(i::text), 'hex'), '10.0.0.1', 12.5, i / 3.0, i / 7.0, i / 9.0,
  make_interval(days => i), '2020-01-01'::date + i, '2020-01-01Z'::timestamptz + make_interval(mins => i), '2020-01-01', B'101', box(point(0, 0), point(1, 1)), point(i, i), 'notes'::regclass, 'mood'::regtype, 'n' || i
FROM generate_series(1, 300) i;
UPDATE accounts SET blob = (SELECT string_agg(decode(md5(random()::text), 'hex'), '') FROM generate_series(1, 5000)) WHERE id = 7; -- in TOAST
CREATE INDEX accounts_search ON accounts USING gin (search);
CREATE INDEX accounts_trgm ON accounts USING gin ((email::text) gin_trgm_ops);
CREATE INDEX accounts_expr ON accounts (double(size)) WHERE size > 2;
CREATE INDEX accounts_cover ON accounts (day DESC NULLS LAST) INCLUDE (feeling);
COMMENT ON INDEX accounts_cover IS 'of an index';
ALTER TABLE accounts CLUSTER ON accounts_cover;
CREATE STATISTICS accounts_stat (dependencies) ON feeling, size FROM accounts;
CREATE TRIGGER accounts_note AFTER INSERT OR UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION note();
COMMENT ON TRIGGER accounts_note ON accounts IS 'of a trigger';
CREATE TRIGGER accounts_off BEFORE DELETE ON accounts FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE accounts DISABLE TRIGGER accounts_off;

CREATE SEQUENCE loose START 7 INCREMENT 3 MINVALUE 5 MAXVALUE 5000 CACHE 5 CYCLE;
SELECT nextval('loose'), nextval('loose');
CREATE SEQUENCE untouched START 42;
CREATE SEQUENCE placed; SELECT setval('placed', 77, false);

CREATE TABLE orders (
  id serial PRIMARY KEY,
  account bigint NOT NULL REFERENCES accounts ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  parent int,
  state mood,
  CONSTRAINT positive_id CHECK (id > 0)
);
ALTER TABLE orders ADD CONSTRAINT later CHECK (id < 1000000) NOT VALID;
ALTER TABLE orders ADD FOREIGN KEY (parent) REFERENCES orders; -- to itself
CREATE TABLE a_cycle (id int PRIMARY KEY, other int);
CREATE TABLE b_cycle (id int PRIMARY KEY, other int REFERENCES a_cycle DEFERRABLE);
ALTER TABLE a_cycle ADD FOREIGN KEY (other) REFERENCES b_cycle DEFERRABLE;
COMMENT ON CONSTRAINT positive_id ON orders IS 'of a constraint';
INSERT INTO orders (account, parent, state) SELECT 1 + i % 300, NULLIF(i / 2, 0), 'ok' FROM generate_series(1, 500) i;
BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO a_cycle VALUES (1, NULL); INSERT INTO b_cycle VALUES (1, 1); UPDATE a_cycle SET other = 1; COMMIT;
CREATE TABLE bookings (room int, during tsrange, EXCLUDE USING gist (during WITH &&));
INSERT INTO bookings VALUES (1, '[2020-01-01,2020-01-02)'), (1, '[2020-01-03,2020-01-04)');

-- Partitions, two levels, with indexes and keys of the parent.
CREATE TABLE events (id bigint GENERATED BY DEFAULT AS IDENTITY, day date NOT NULL, region text NOT NULL, body text, PRIMARY KEY (id, day, region)) PARTITION BY RANGE (day);
CREATE TABLE events_2020 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01') PARTITION BY LIST (region);
CREATE TABLE events_2020_eu PARTITION OF events_2020 FOR VALUES IN ('eu');
CREATE TABLE events_2020_rest PARTITION OF events_2020 DEFAULT;
CREATE TABLE events_default PARTITION OF events DEFAULT;
CREATE INDEX events_body ON events (body);
CREATE INDEX events_eu_only ON events_2020_eu (region, id);
INSERT INTO events (day, region, body) SELECT '2020-06-01'::date + i, CASE i % 3 WHEN 0 THEN 'eu' ELSE 'us' END, 'event ' || i FROM generate_series(1, 600) i;

-- Inheritance.
CREATE TABLE animals (id serial PRIMARY KEY, name text NOT NULL);
CREATE TABLE dogs (breed text) INHERITS (animals);
INSERT INTO animals (name) VALUES ('cat'); INSERT INTO dogs (name, breed) VALUES ('rex', 'x'), ('rex', 'x');

CREATE TABLE nokey_unique (code text NOT NULL UNIQUE, n int); -- found by an index
CREATE TABLE nokey_full (a int, b jsonb); -- found by its whole rows
CREATE TABLE nokey_nothing (a int); ALTER TABLE nokey_nothing REPLICA IDENTITY NOTHING;
CREATE TABLE keyed_full (id int PRIMARY KEY, v text); ALTER TABLE keyed_full REPLICA IDENTITY FULL;
CREATE TABLE keyed_index (id int PRIMARY KEY, code text NOT NULL); CREATE UNIQUE INDEX keyed_index_code ON keyed_index (code);
ALTER TABLE keyed_index REPLICA IDENTITY USING INDEX keyed_index_code;
INSERT INTO nokey_unique SELECT 'c' || i, i FROM generate_series(1, 50) i;
INSERT INTO nokey_full SELECT i % 5, '{"a": 1}' FROM generate_series(1, 50) i;
INSERT INTO nokey_nothing SELECT 1 FROM generate_series(1, 5) i;
INSERT INTO keyed_full SELECT i, 'v' FROM generate_series(1, 5) i;
INSERT INTO keyed_index SELECT i, 'c' || i FROM generate_series(1, 5) i;
CREATE TABLE no_columns (); INSERT INTO no_columns DEFAULT VALUES; INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE dropped_column (a int, b int, c text); ALTER TABLE dropped_column DROP COLUMN b; INSERT INTO dropped_column SELECT i, 'x' FROM generate_series(1, 9) i;
CREATE TABLE t (t text PRIMARY KEY, "select" int, "Ünïcode ""q"" %s" text); INSERT INTO t VALUES ('t', 1, 'x');
CREATE TABLE "Über schema"."Weird table; --" ("id" int PRIMARY KEY, "a b" text); INSERT INTO "Über schema"."Weird table; --" VALUES (1, 'x');
CREATE TABLE typed OF pair; INSERT INTO typed VALUES (1, 'x');
CREATE TABLE one_json (id int PRIMARY KEY, j json, x xml); INSERT INTO one_json VALUES (1, '{"a":  1}', '<a/>');

CREATE VIEW happy AS SELECT id, email FROM accounts WHERE feeling = 'happy' WITH CHECK OPTION;
CREATE VIEW grouped WITH (security_barrier) AS SELECT id, email, count(*) FROM accounts GROUP BY id; -- needs the primary key
COMMENT ON VIEW happy IS 'of a view';
CREATE RULE notes_too AS ON DELETE TO notes DO ALSO SELECT 1;
CREATE MATERIALIZED VIEW totals AS SELECT feeling, count(*) AS n FROM accounts GROUP BY feeling;
CREATE UNIQUE INDEX totals_key ON totals (feeling);
CREATE VIEW between_totals AS SELECT * FROM totals;
CREATE MATERIALIZED VIEW a_total_of_totals AS SELECT sum(n) AS n FROM between_totals; -- sorts before what it needs
CREATE MATERIALIZED VIEW empty_view AS SELECT 1 AS one WITH NO DATA;

ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON accounts FOR SELECT USING (email::text = current_setting('request.sub', true));
ALTER TABLE orders ENABLE ROW LEVEL SECURITY; ALTER TABLE orders FORCE ROW LEVEL SECURITY;
CREATE POLICY everything ON orders USING (true) WITH CHECK (true);
COMMENT ON POLICY own ON accounts IS 'of a policy';

DO $$
DECLARE rw text := quote_ident(current_database() || '_rw'); ro text := quote_ident(current_database() || '_ro');
BEGIN
  EXECUTE 'GRANT SELECT (id, email), UPDATE (feeling) ON accounts TO ' || ro;
  EXECUTE 'REVOKE SELECT ON notes FROM ' || ro;
  EXECUTE 'GRANT SELECT ON orders TO ' || ro || ' WITH GRANT OPTION';
  EXECUTE 'GRANT USAGE ON SCHEMA "Über schema" TO ' || ro;
  EXECUTE 'REVOKE EXECUTE ON FUNCTION double(int) FROM ' || rw;
  EXECUTE 'ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM ' || ro;
  EXECUTE 'ALTER DEFAULT PRIVILEGES IN SCHEMA every GRANT INSERT ON TABLES TO ' || ro;
  EXECUTE 'CREATE POLICY for_ro ON accounts FOR UPDATE TO ' || ro || ' USING (id < 10)';
END $$;
CREATE TEXT SEARCH CONFIGURATION plain (COPY = simple);
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE CAST (pair AS text) WITH INOUT; -- a mover that casts rows would meet it
