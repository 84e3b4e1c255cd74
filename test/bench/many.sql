-- A tenant of a thousand small tables, each with a key, an index and some rows.
DO $$ BEGIN FOR i IN 1..1000 LOOP
  EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY, a text, b int); CREATE INDEX ON many_%s (b); INSERT INTO many_%s SELECT i, md5(i::text), i FROM generate_series(1, 20) i', i, i, i);
END LOOP; END $$;
