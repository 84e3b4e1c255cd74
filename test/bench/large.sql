-- A tenant of about 200 MB, times the scale: seven tables, one without a key, foreign keys,
-- identity columns, an index of every kind the sample schema knows.
CREATE TABLE facts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL, at timestamptz NOT NULL, amount numeric(12,2), note text);
CREATE TABLE owners (id int PRIMARY KEY, name text);
CREATE TABLE docs (id int PRIMARY KEY, body jsonb);
CREATE TABLE trail (at timestamptz, what text);
INSERT INTO owners SELECT i, 'owner ' || i FROM generate_series(1, 5000) i;
INSERT INTO facts (customer, at, amount, note) SELECT i % 5000 + 1, '2024-01-01Z'::timestamptz + make_interval(secs => i), i / 7.0, md5(i::text) || md5((i * 7)::text) FROM generate_series(1, 800000 * @scale) i;
INSERT INTO docs SELECT i, jsonb_build_object('k', i, 'text', repeat(md5(i::text), 10)) FROM generate_series(1, 120000 * @scale) i;
INSERT INTO trail SELECT now(), md5(i::text) FROM generate_series(1, 400000 * @scale) i;
CREATE INDEX facts_customer ON facts (customer);
CREATE INDEX facts_at ON facts (at);
CREATE INDEX trail_at ON trail USING brin (at);
ALTER TABLE facts ADD FOREIGN KEY (customer) REFERENCES owners;
ANALYZE;
