-- What an application does to the database of everything.sql and rarer.sql
-- while it moves: some of each kind of change, to each kind of table.
SET search_path = every, public;
UPDATE accounts SET size = size % 7 + 1, feeling = 'very happy', pairs = pairs || ROW(NULL, 'z')::pair, reach = 'empty', tags = tags || 'b=>NULL', blob = 'changed' WHERE id % 50 = 9;
UPDATE accounts SET ratio = 1.5 WHERE id = 7; -- its TOAST stays as it is and is not in the stream
DELETE FROM accounts WHERE id = 300; -- and its orders
INSERT INTO orders (account, state) VALUES (1, 'sad'); UPDATE orders SET state = 'happy' WHERE id < 5; DELETE FROM orders WHERE id = 499;
INSERT INTO bookings VALUES (2, 'empty'); UPDATE bookings SET room = 3 WHERE during @> '2020-01-03 12:00'::timestamp;
UPDATE a_cycle SET other = NULL; UPDATE b_cycle SET id = 2, other = NULL; UPDATE a_cycle SET other = 2;
INSERT INTO events (day, region, body) VALUES ('2020-02-02', 'eu', 'late'), ('2023-02-02', 'us', 'later');
UPDATE events SET region = 'us' WHERE id = 3; UPDATE events SET day = '2031-01-01' WHERE id IN (5, 6); DELETE FROM events WHERE id % 100 = 0; -- to other partitions
INSERT INTO dogs (name, breed) VALUES ('late', 'y'); UPDATE animals SET name = name || '!'; -- children too
DELETE FROM robots WHERE ctid = (SELECT min(ctid) FROM robots); -- one of two that are the same
UPDATE nokey_unique SET n = n + 1 WHERE n < 10; UPDATE nokey_full SET b = '{"a": 2}' WHERE a = 1; INSERT INTO nokey_nothing VALUES (2); DELETE FROM nokey_nothing WHERE ctid = (SELECT min(ctid) FROM nokey_nothing);
DELETE FROM nokey_full WHERE ctid IN (SELECT ctid FROM nokey_full WHERE a = 2 LIMIT 3);
UPDATE keyed_full SET v = 'w' WHERE id = 2; UPDATE keyed_index SET code = 'other' WHERE id = 3; DELETE FROM keyed_index WHERE id = 4;
INSERT INTO no_columns DEFAULT VALUES; UPDATE dropped_column SET c = 'y' WHERE a = 3; UPDATE typed SET y = 'y';
UPDATE "Über schema"."Weird table; --" SET "a b" = 'ü'; UPDATE one_json SET j = '{"b":  2}', x = '<b/>';
INSERT INTO hashed SELECT i, 'late' FROM generate_series(1000, 1020) i; UPDATE hashed SET id = id + 1000 WHERE id BETWEEN 1010 AND 1020; DELETE FROM hashed WHERE id = 1000;
DELETE FROM hashed WHERE id = 50; -- unsets what refers to it
UPDATE readings SET sensor = sensor + 5, value = 'NaN' WHERE sensor % 7 = 0; DELETE FROM readings WHERE sensor % 11 = 0;
UPDATE expressed SET v = 'c' WHERE v = 'A'; UPDATE expressed SET v = 'a' WHERE v IS NULL; INSERT INTO expressed VALUES ('A');
UPDATE pairs_of SET b = 'DEUX' WHERE a = 2; DELETE FROM pairs_of WHERE a = 1; INSERT INTO of_pairs DEFAULT VALUES;
UPDATE held SET of = 'z' WHERE ctid = (SELECT min(ctid) FROM held WHERE room = -1);
UPDATE typical SET e = '{two words}', m = '{}', g = NULL WHERE (p).x = 2; DELETE FROM typical WHERE (p).x = 3;
UPDATE limits_of SET i = '1 day' WHERE f4 = 'NaN'; UPDATE limits_of SET t = t || 'er' WHERE length(t) > 100; INSERT INTO limits_of VALUES ('Infinity', '1e-300', '-Infinity');
INSERT INTO changed (id, v) VALUES (11, 'late'), (-1, 'never'); UPDATE changed SET v = 'w' WHERE id < 4; DELETE FROM changed WHERE id = 5; INSERT INTO updatable VALUES (12, 'instead');
UPDATE "select"."from" SET "Zeile
zwei" = 22 WHERE "where" = 1;
INSERT INTO "日本 語"."表
; DROP" VALUES ('後'); UPDATE public."UPPER" SET "Id" = 2;
UPDATE widest SET c1600 = -1, c3 = 3 WHERE c1 = 2; DELETE FROM widest WHERE c1 = 3; INSERT INTO widest (c800) VALUES (8);
INSERT INTO all_dropped DEFAULT VALUES; INSERT INTO computed_only DEFAULT VALUES;
SELECT nextval('loose'), nextval('placed'), nextval('light'), nextval('small_one'), setval('untouched', 50);
REFRESH MATERIALIZED VIEW totals;
