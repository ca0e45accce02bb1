SELECT * FROM secret
SELECT * FROM "secret"
SELECT * FROM public.secret
SELECT * FROM public.orders
SELECT * FROM "Orders"
SELECT * FROM orders, secret
SELECT * FROM orders JOIN secret USING (a)
SELECT * FROM orders WHERE a IN (SELECT a FROM secret)
SELECT (SELECT a FROM secret LIMIT 1)
SELECT * FROM (SELECT * FROM secret) orders
SELECT * FROM orders UNION SELECT * FROM secret
SELECT * FROM orders ORDER BY (SELECT a FROM secret LIMIT 1)
SELECT CASE WHEN EXISTS (SELECT 1 FROM secret) THEN 1 END
SELECT * FROM LATERAL (SELECT * FROM secret) x
SELECT ARRAY(SELECT a FROM secret)
WITH x AS (SELECT * FROM secret) SELECT * FROM x
WITH secret AS (SELECT * FROM secret) SELECT * FROM secret
WITH a AS (SELECT * FROM secret), secret AS (SELECT 1) SELECT * FROM a
SELECT * FROM (WITH secret AS (SELECT 1) SELECT * FROM secret) x, secret
WITH x AS (DELETE FROM secret RETURNING *) SELECT * FROM x
WITH x AS (UPDATE orders SET a = 2 RETURNING *) SELECT * FROM x
WITH x AS (INSERT INTO orders VALUES (5) RETURNING *) SELECT * FROM x
WITH orders AS (SELECT 1) DELETE FROM orders
SELECT * INTO copied FROM orders
CREATE TABLE copied AS SELECT * FROM orders
CREATE VIEW orders2 AS SELECT * FROM secret
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'
CREATE TEMP TABLE orders2 (a int)
TABLE secret
TABLE ONLY orders
PREPARE p AS TABLE secret
SELECT a collate FROM secret
SELECT a::text COLLATE "C", (TABLE secret) FROM orders
SELECT 1 table FROM secret
(TABLE secret)
SELECT 1 UNION TABLE secret
SELECT (TABLE secret LIMIT 1)
SELECT * FROM (TABLE secret) x
SELECT ARRAY(TABLE secret)
WITH x AS (TABLE secret) SELECT * FROM x
SELECT * FROM orders WHERE EXISTS (TABLE secret)
SELECT * FROM orders WHERE a::text IN (TABLE secret)
SELECT * FROM orders EXCEPT (TABLE secret)
SELECT * EXCEPT (SELECT * FROM secret)
SELECT * FROM orders NATURAL JOIN secret
SELECT * FROM ((orders CROSS JOIN secret))
SELECT * FROM ROWS FROM (query_to_xml('select 1', true, false, '')) x
SELECT count(*) FILTER (WHERE EXISTS (SELECT 1 FROM secret)) FROM orders
SELECT sum(a) OVER (ORDER BY (SELECT 1 FROM secret LIMIT 1)) FROM orders
SELECT * FROM orders LIMIT (SELECT 1 FROM secret LIMIT 1)
SELECT * FROM orders GROUP BY a HAVING EXISTS (SELECT 1 FROM secret)
SELECT * FROM generate_series(1, (SELECT count(*) FROM secret))
VALUES ((SELECT a FROM secret LIMIT 1))
EXECUTE p((SELECT a FROM secret LIMIT 1))
INSERT INTO orders VALUES (1)
UPDATE orders SET a = 1
DELETE FROM orders
TRUNCATE orders
MERGE INTO orders USING secret ON true WHEN MATCHED THEN DELETE
DROP TABLE orders
ALTER TABLE orders ADD b int
GRANT ALL ON orders TO PUBLIC
COPY secret TO STDOUT
COPY orders FROM STDIN
COPY (SELECT * FROM secret) TO STDOUT
COPY (DELETE FROM orders RETURNING *) TO STDOUT
COPY orders TO '/tmp/x'
COPY orders TO PROGRAM 'cat'
EXPLAIN ANALYZE SELECT * FROM secret
EXPLAIN ANALYZE DELETE FROM orders
PREPARE p AS SELECT * FROM secret
PREPARE p AS DELETE FROM orders
DECLARE c CURSOR FOR SELECT * FROM secret
SELECT 1; SELECT * FROM secret
SELECT 1; DELETE FROM orders
SELECT 1 -- x\n; DELETE FROM orders
SELECT '\'; DELETE FROM orders; --'
SELECT E'\''; DELETE FROM orders; --'
SELECT $$ $$; DELETE FROM orders
COPY orders TO STDOUT; DELETE FROM orders
DO $$ BEGIN DELETE FROM orders; END $$
CALL leave()
SET search_path TO private
SET LOCAL search_path = private
SET SCHEMA 'private'
SELECT set_config('search_path', 'private', false)
SET ROLE postgres
SET SESSION AUTHORIZATION postgres
SET standard_conforming_strings = off
SET client_encoding TO 'SJIS'
SET client_encoding TO SJIS -- UTF8
SET client_encoding = 'SJIS' -- =utf8
SET NAMES 'SJIS' /*=utf8*/
SELECT query_to_xml('select * from secret', true, false, '')
SELECT table_to_xml('secret', true, false, '')
SELECT schema_to_xml('public', true, false, '')
SELECT database_to_xml(true, false, '')
SELECT pg_read_file('/etc/passwd')
SELECT * FROM pg_ls_dir('/')
SELECT * FROM pg_catalog.pg_authid
SELECT * FROM information_schema.tables
SELECT * FROM pg_stat_activity
SELECT * FROM app.public.secret
SELECT * FROM ONLY secret
SELECT * FROM ONLY (secret)
SELECT * FROM only(public.secret) s
SELECT * FROM orders JOIN only(public.secret) s ON true
SELECT * FROM orders, LATERAL (SELECT * FROM ONLY (secret)) s
SELECT * FROM orders WHERE EXISTS (SELECT 1 FROM ONLY (secret))
WITH "only" AS (SELECT 1) SELECT * FROM ONLY secret
WITH "only" AS (SELECT 1) SELECT * FROM orders RIGHT JOIN ONLY secret ON true
WITH "only" AS (SELECT 1) SELECT * FROM ONLY (secret)
COPY (SELECT * FROM ONLY (secret)) TO STDOUT
SELECT * FROM secret *
SELECT * FROM secret TABLESAMPLE SYSTEM (100)
SELECT * FROM orders FOR UPDATE
LOCK TABLE orders
NOTIFY x, 'y'
LISTEN x
VACUUM orders
REFRESH MATERIALIZED VIEW orders
COMMENT ON TABLE orders IS 'x'
LOAD 'auto_explain'
PREPARE TRANSACTION 'left'
COMMIT PREPARED 'left'
SELECT 1 END
SELECT U&"s\0065cret" FROM orders
SELECT * FROM secret WHERE 2 BETWEEN SYMMETRIC 3 AND 1
SELECT * FROM orders WHERE a BETWEEN SYMMETRIC (SELECT 1 FROM secret) AND 3
SELECT * FROM orders WHERE a BETWEEN SYMMETRIC 3 AND (SELECT count(*) FROM secret)
SELECT 1 IS DISTINCT FROM rows FROM secret
SET search_path TO sales, private
SET search_path = "private", sales
SET search_path TO sales, pg_catalog
SET search_path TO DEFAULT
SET search_path TO public
SELECT leave()
SELECT public.leave()
SELECT "leave" /* a */ ()
SELECT * FROM leave()
SELECT * FROM orders, LATERAL peek('a') x
SELECT * FROM orders JOIN peek('a') AS x(b) ON true
SELECT peek('a')
SELECT lower(peek('a'))
SELECT a FROM orders WHERE peek('a') = 'b'
SELECT a FROM orders ORDER BY peek('a')
SELECT count(*) FILTER (WHERE peek('a') IS NULL) FROM orders
SELECT max(peek('a')) OVER (PARTITION BY peek('b')) FROM orders
SELECT ARRAY[peek('a')]
SELECT CASE WHEN peek('a') = 'b' THEN 1 END
VALUES (peek('a'))
WITH x AS (SELECT peek('a')) SELECT * FROM x
EXECUTE p(peek('a'))
EXPLAIN ANALYZE SELECT peek('a')
PREPARE p AS SELECT peek($1)
DECLARE c CURSOR FOR SELECT peek('a')
COPY (SELECT peek('a')) TO STDOUT
SELECT ('a'::text).peek
SELECT (lower('a')).peek
SELECT (ARRAY['a'])[1].peek
SELECT (SELECT 'a'::text).peek
SELECT x.a[1].peek FROM (SELECT ARRAY['a'] AS a) x
SELECT x.peek FROM lower('a') x
SELECT x.peek FROM LATERAL lower('a') x
SELECT lower.peek FROM lower('a')
SELECT x.peek FROM unnest(ARRAY['a']) x
SELECT unnest.peek FROM unnest(ARRAY['a'])
SELECT "x"."peek" FROM unnest(ARRAY['a']) AS X(a)
SELECT x.peek FROM unnest(ARRAY['a']) x WHERE EXISTS (SELECT 1 FROM unnest(ARRAY['b']) x(peek))
SELECT x.peek FROM current_user x
SELECT pg_terminate_backend(1)
SELECT (0::oid).lo_unlink
SELECT pg_notify('a', 'b')
SELECT TREAT('a'::text AS peek)
SELECT TREAT('select * from secret'::text AS ts_stat)
SELECT * FROM ts_stat('select a::tsvector from secret')
SELECT cursor_to_xml('c', 1, true, false, '')
SELECT pg_stat_get_activity(NULL)
SELECT lo_get(1)
