-- Handlers of media types, after the documentation's examples.
CREATE DOMAIN "text/html" AS text;
CREATE DOMAIN "text/csv" AS text;
CREATE DOMAIN "application/vnd.wire" AS bytea;
CREATE DOMAIN "application/vnd.Pairs+json" AS json;
CREATE DOMAIN "pg/rows" AS text;
CREATE DOMAIN "*/*" AS bytea;
CREATE DOMAIN "application/vnd.pgrst.object" AS json;

CREATE TABLE lines (id int PRIMARY KEY, name text);
INSERT INTO lines VALUES (1, 'line-1'), (2, 'line-2');
CREATE TABLE points (id int PRIMARY KEY, line_id int REFERENCES lines);
INSERT INTO points VALUES (1, 1), (2, NULL);

CREATE FUNCTION page(title text DEFAULT 'hello') RETURNS "text/html" LANGUAGE sql STABLE AS $$ SELECT CASE WHEN title <> '' THEN '<h1>' || title || '</h1>' END $$;
CREATE FUNCTION pages() RETURNS SETOF "text/html" LANGUAGE sql STABLE AS $$ VALUES ('a'), ('b') $$;
CREATE FUNCTION wire(id int) RETURNS "application/vnd.wire" LANGUAGE sql STABLE AS $$ SELECT ('\x00ff' || convert_to(name, 'UTF8'))::bytea FROM lines WHERE lines.id = wire.id $$;
CREATE FUNCTION plain() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'plain' $$;
CREATE FUNCTION plains() RETURNS SETOF text LANGUAGE sql STABLE AS $$ VALUES ('a'), ('b') $$;
CREATE FUNCTION get_lines() RETURNS SETOF lines LANGUAGE sql STABLE AS $$ SELECT * FROM lines $$;
CREATE FUNCTION whatever() RETURNS "*/*" LANGUAGE plpgsql STABLE AS $$
DECLARE accept text := current_setting('request.headers', true)::json->>'accept';
BEGIN
  IF accept = 'app/chico' THEN
    PERFORM set_config('response.headers', json_build_array(json_build_object('Content-Type', accept))::text, true);
  ELSIF accept = 'text/csv' THEN
    RAISE SQLSTATE 'PT415' USING message = 'Unsupported Media Type';
  END IF;
  RETURN 'whatever';
END $$;

CREATE FUNCTION wire_next(state bytea, next lines) RETURNS "application/vnd.wire" LANGUAGE sql AS $$ SELECT (state || '\x00'::bytea || convert_to(next.name, 'UTF8'))::bytea $$;
CREATE AGGREGATE wire_agg (lines) (initcond = '', stype = "application/vnd.wire", sfunc = wire_next);

CREATE FUNCTION csv_next(state text, next lines) RETURNS "text/csv" LANGUAGE sql AS $$ SELECT state || next.id || ';' || next.name || E'\n' $$;
CREATE FUNCTION csv_final(data "text/csv") RETURNS "text/csv" LANGUAGE sql AS $$
  SELECT set_config('response.headers', '[{"Content-Disposition": "attachment; filename=\"lines.csv\""}]', true);
  SELECT E'\uFEFFid;name\n' || data
$$;
CREATE AGGREGATE csv_agg (lines) (initcond = '', stype = "text/csv", sfunc = csv_next, finalfunc = csv_final);

CREATE FUNCTION rows_next(state text, next anyelement) RETURNS "pg/rows" LANGUAGE sql AS $$ SELECT (state || next::text || E'\n')::"pg/rows" $$;
CREATE AGGREGATE rows_agg (anyelement) (initcond = '', stype = "pg/rows", sfunc = rows_next);
CREATE FUNCTION points_next(state text, next points) RETURNS "pg/rows" LANGUAGE sql AS $$ SELECT 'points'::"pg/rows" $$;
CREATE AGGREGATE points_agg (points) (initcond = '', stype = "pg/rows", sfunc = points_next);

CREATE FUNCTION pairs_next(state json, next anyelement) RETURNS "application/vnd.Pairs+json" LANGUAGE sql AS $$ SELECT to_json(next)::"application/vnd.Pairs+json" $$;
CREATE AGGREGATE pairs_agg (anyelement) (initcond = '{}', stype = "application/vnd.Pairs+json", sfunc = pairs_next);

CREATE FUNCTION object_next(state json, next anyelement) RETURNS "application/vnd.pgrst.object" LANGUAGE sql AS $$ SELECT '"overridden"'::json $$;
CREATE AGGREGATE object_agg (anyelement) (initcond = '{}', stype = "application/vnd.pgrst.object", sfunc = object_next);

CREATE VIEW "lines.xml" AS SELECT * FROM lines;
CREATE FUNCTION xml_next(state "*/*", next "lines.xml") RETURNS "*/*" LANGUAGE sql AS $$ SELECT state || convert_to('<line id="' || next.id || '"/>', 'UTF8') $$;
CREATE FUNCTION xml_final(data "*/*") RETURNS "*/*" LANGUAGE plpgsql AS $$
DECLARE accept text := current_setting('request.headers', true)::json->>'accept';
BEGIN
  IF coalesce(accept, '*/*') IN ('*/*', 'text/xml') THEN
    PERFORM set_config('response.headers', '[{"Content-Type": "text/xml"}]', true);
  ELSIF accept <> 'app/octets' THEN
    RAISE SQLSTATE 'PT415' USING message = 'Unsupported Media Type';
  END IF;
  RETURN data;
END $$;
CREATE AGGREGATE xml_agg (lines_xml "lines.xml") (initcond = '', stype = "*/*", sfunc = xml_next, finalfunc = xml_final);

-- What PostGIS brings, as far as it is needed here: a row's first point becomes its geometry.
CREATE FUNCTION st_asgeojson(r record, geom_column text DEFAULT '') RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE doc jsonb := to_jsonb(r); name text;
BEGIN
  SELECT key INTO name FROM jsonb_each_text(doc) WHERE value ~ '^\(.*,.*\)$' LIMIT 1;
  IF name IS NULL THEN
    RAISE EXCEPTION 'geometry column is missing' USING ERRCODE = '22023';
  END IF;
  RETURN jsonb_build_object('type', 'Feature', 'geometry', jsonb_build_object('type', 'Point', 'coordinates',
    ('[' || translate(doc->>name, '()', '') || ']')::jsonb), 'properties', doc - name);
END $$;
CREATE TABLE shops (id int PRIMARY KEY, address text, geom point);
INSERT INTO shops VALUES (1, '1369 Cambridge St', '(-71.5,42)');
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "DATABASE_rw";
