SET default_transaction_read_only = off
SET default_transaction_read_only TO DEFAULT
SET SESSION default_transaction_read_only = off
SET LOCAL default_transaction_read_only = off
set Default_Transaction_Read_Only=off
SET "default_transaction_read_only" = off
SET "Default_Transaction_READ_ONLY" TO 'off'
SET transaction_read_only = off
SET LOCAL transaction_read_only = 0
SET "transaction_read_only" TO false
SET/**/default_transaction_read_only/**/=/**/off
SET -- x\rdefault_transaction_read_only = off
SET -- x\ndefault_transaction_read_only = off
/* /* */ SELECT 1; */ SET default_transaction_read_only = off
SELECT 1; SET default_transaction_read_only = off
SELECT '\'; SET default_transaction_read_only = off; --'
SELECT ''''; SET default_transaction_read_only = off
SELECT E'\''; SET default_transaction_read_only = off
SELECT $$ $$; SET default_transaction_read_only = off
SELECT $a$ $b$ $a$; SET default_transaction_read_only = off
SELECT 1 --\r; SET default_transaction_read_only = off
SET TRANSACTION READ WRITE
SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE
SET LOCAL TRANSACTION READ WRITE
SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE READ WRITE
BEGIN READ WRITE
BEGIN TRANSACTION READ/**/WRITE
BEGIN WORK ISOLATION LEVEL SERIALIZABLE, READ WRITE
START TRANSACTION READ WRITE
START TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE
BEGIN; SET TRANSACTION READ WRITE
RESET default_transaction_read_only
RESET transaction_read_only
SELECT set_config('default_transaction_read_only', 'off', false)
SELECT pg_catalog.set_config('default_transaction_read_only', 'off', false)
SELECT "set_config"('default_transaction_read_only', 'off', false)
SELECT set_config('role', 'postgres', false)
SELECT set_config('jit'\n'_above_cost', '1', false)
SELECT set_config(E'jit', 'off', false)
SELECT set_config($$jit$$, 'off', false)
SELECT set_config(U&'jit', 'off', false)
SELECT set_config('Transaction_Read_Only', 'off', false)
SELECT set_config('client_encoding', 'SJIS', false)
SELECT set_config('session_authorization', 'postgres', false)
SELECT set_config('jit' || '', 'off', false)
SELECT set_config('jit'::text, 'off', false)
SELECT set_config(('jit'), 'off', false)
SELECT set_config(lower('JIT'), 'off', false)
SELECT other.set_config('jit', 'off', false)
SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'
SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'default_transaction_read_only'
LOCK TABLE t IN EXCLUSIVE MODE
LOCK TABLE t, "in", "access", "share", "mode"
LOCK TABLE t, "in"."access", "share"."mode"
LOCK TABLE t
SELECT set_config(setting_name => 'default_transaction_read_only', new_value => 'off', is_local => false)
SELECT set_config('jit', 'off', false), set_config('default_transaction_read_only', 'off', false)
SELECT set_config('jit', set_config('default_transaction_read_only', 'off', false), false)
SELECT 'jit', set_config(name, 'off', false) FROM pg_settings WHERE name = 'default_transaction_read_only'
SELECT SET_CONFIG('default_' || 'transaction_read_only', 'off', false)
SELECT U&"set\005fconfig"('default_transaction_read_only', 'off', false)
SELECT U&"!0073et_config" UESCAPE '!' ('default_transaction_read_only', 'off', false)
WITH x AS (SELECT set_config('default_transaction_read_only', 'off', false)) SELECT * FROM x
VALUES (set_config('default_transaction_read_only', 'off', false))
EXPLAIN ANALYZE SELECT set_config('default_transaction_read_only', 'off', false)
PREPARE p AS SELECT set_config('default_transaction_read_only', 'off', false)
DECLARE c CURSOR WITH HOLD FOR SELECT set_config('default_transaction_read_only', 'off', false)
COPY (SELECT set_config('default_transaction_read_only', 'off', false)) TO STDOUT
UPDATE pg_settings SET setting = 'off' WHERE name = 'default_transaction_read_only'
WITH x AS (UPDATE pg_settings SET setting = 'off' WHERE name = 'default_transaction_read_only' RETURNING 1) SELECT * FROM x
EXPLAIN ANALYZE UPDATE pg_catalog.pg_settings SET setting = 'off' WHERE name = 'default_transaction_read_only'
DO $$ BEGIN PERFORM set_config('default_transaction_read_only', 'off', false); END $$
DO $$ BEGIN EXECUTE 'SET default_transaction_read_only = off'; END $$
DO LANGUAGE plpgsql 'BEGIN SET default_transaction_read_only = off; END'
CALL leave()
SELECT query_to_xml('select set_config(''default_transaction_read_only'', ''off'', false)', true, false, '')
SELECT query_to_xml_and_xmlschema('select 1', true, false, '')
SELECT * FROM ts_stat('select set_config(''default_transaction_read_only'', ''off'', false)::tsvector')
SET ROLE postgres
SET SESSION ROLE postgres
SET LOCAL ROLE NONE
SET SESSION AUTHORIZATION postgres
SET role TO postgres
SET session_authorization TO postgres
SET standard_conforming_strings = off
SET standard_conforming_strings TO DEFAULT
SET standard_conforming_strings = on, off
SET SESSION standard_conforming_strings = off
SET backslash_quote = on
SET client_encoding TO 'SJIS'
SET NAMES 'GBK'
SET client_encoding TO 'SJIS'; SELECT 'UTF8'
SET client_encoding TO SJIS -- UTF8
SET client_encoding TO SJIS --=UTF8
SET client_encoding = 'SJIS' -- =utf8
SET client_encoding = 'SJIS' /* UTF8 */
SET client_encoding TO E'SJIS'
SET client_encoding TO $$SJIS$$
SET "client_encoding" TO "sjis"
SET NAMES 'SJIS' /*=utf8*/
SET NAMES 'SJIS' -- utf8
SET SESSION NAMES 'SJIS' /* utf8*/
SET LOCAL client_encoding TO 'SJIS'
SELECT 'UTF8'; SET client_encoding TO SJIS
COPY t FROM STDIN
COPY t FROM PROGRAM 'id'
COPY t TO PROGRAM 'cat > /tmp/x'
COPY (SELECT 1) TO '/tmp/x'
COPY t FROM '/etc/passwd'
INSERT INTO t VALUES (1)
CREATE TEMP TABLE x (a int)
ALTER ROLE CURRENT_USER SET default_transaction_read_only = off
ALTER SYSTEM SET default_transaction_read_only = off
ALTER DATABASE app SET default_transaction_read_only = off
LOAD 'auto_explain'
VACUUM t
SELECT lo_create(0)
SELECT lo_import('/etc/passwd')
SELECT (0::oid).lo_create
SELECT x.lo_create FROM CAST(0 AS oid) x
SELECT pg_reload_conf()
SELECT pg_terminate_backend(1)
PREPARE TRANSACTION 'left'
COMMIT PREPARED 'left'
ROLLBACK PREPARED 'left'
COPY "to".stdout TO '/tmp/x'
EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1
EXPLAIN (ANALYZE, COSTS OFF) CREATE TABLE x AS SELECT 1
EXPLAIN ANALYZE SELECT 1 INTO x
PREPARE p AS SELECT 1 AS a INTO x
SELECT 1 AS a INTO x
WITH y AS (SELECT 1 AS a) SELECT a INTO x FROM y
SELECT 1. INTO x
EXPLAIN ANALYZE SELECT 1. INTO x
EXPLAIN ANALYZE SELECT 1 AS a INTO "into"
EXPLAIN (ANALYZE) (SELECT 1 AS a INTO x)
EXPLAIN VERBOSE CREATE TABLE x AS SELECT 1
NOTIFY a
SELECT pg_notify('a', 'b')
SELECT pg_advisory_lock(1)
EXPLAIN ANALYZE SELECT 1 AS a INTO TABLE x FROM t
EXPLAIN ANALYZE CREATE MATERIALIZED VIEW x AS SELECT 1
SELECT pg_logical_emit_message(false, 'a', 'b')
SELECT pg_catalog . "pg_switch_wal" ()
SELECT (1).pg_cancel_backend
SELECT pg_read_file('/etc/passwd')
SELECT * FROM pg_catalog.pg_ls_dir('/')
