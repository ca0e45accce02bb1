SET SESSION TRANSACTION READ WRITE
SET TRANSACTION READ WRITE
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE
SET LOCAL TRANSACTION READ WRITE
SET GLOBAL TRANSACTION READ WRITE
SET tx_read_only = 0
SET @@tx_read_only = 0
SET @@session.tx_read_only = OFF
SET SESSION tx_read_only = 0
SET `tx_read_only` = 0
SET @@session.transaction_read_only = 0
SET transaction_read_only = 0
SET/**/tx_read_only/**/=/**/0
SET -- x\ntx_read_only = 0
SET # x\ntx_read_only = 0
SET autocommit = 1, tx_read_only = 0
SET @a = 1, SESSION tx_read_only = 0
SET tx_read_only = DEFAULT
SET NAMES utf8mb4, tx_read_only = 0
SELECT 1; SET tx_read_only = 0
SELECT '\''; SET tx_read_only = 0; -- '
SELECT "\""; SET tx_read_only = 0; -- "
SELECT 'a''b'; SET tx_read_only = 0
SELECT 1 /* ; */; SET tx_read_only = 0
SELECT 1 -- x\n; SET tx_read_only = 0
/*!50000 SET tx_read_only = 0 */
/*M! SET tx_read_only = 0 */
SELECT 1 /*! INTO OUTFILE '/tmp/keyward-out' */
SELECT 1 /* /* */; SET tx_read_only = 0; -- */
START TRANSACTION READ WRITE
START TRANSACTION WITH CONSISTENT SNAPSHOT, READ WRITE
BEGIN NOT ATOMIC SET tx_read_only = 0; END
SET STATEMENT tx_read_only = 0 FOR INSERT INTO t VALUES (5)
SET sql_mode = 'ANSI_QUOTES'
SET sql_mode = 'NO_BACKSLASH_ESCAPES'
SET sql_mode = 4
SET sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')
SET @x = 'ANSI_QUOTES'; SET sql_mode = @x
SET NAMES gbk
SET NAMES 'gbk'
SET NAMES DEFAULT
SET NAMES utf8mb4, NAMES gbk
SET @a = 1, NAMES gbk
SET @a := (1, 2), NAMES gbk COLLATE gbk_bin
SET autocommit=0, NAMES 'sjis'
SET CHAR SET gbk
SET CHARSET gbk
SET @a = 1, CHAR SET gbk
SET @a = 1, CHARACTER SET 'gbk'
SET @a = 1, CHARSET gbk
SET CHARACTER SET sjis
SET character_set_client = gbk
SET ROLE admin
SET PASSWORD = PASSWORD('x')
SET DEFAULT ROLE NONE
SET GLOBAL general_log = 1
INSERT INTO t VALUES (5)
REPLACE INTO t VALUES (5)
UPDATE t SET a = 5
DELETE FROM t
TRUNCATE t
CREATE TABLE x (a INT)
CREATE TEMPORARY TABLE x (a INT)
CREATE TABLE x AS SELECT 1
DROP TABLE t
ALTER TABLE t ADD b INT
RENAME TABLE t TO x
CALL leave_mode()
DO SLEEP(0)
PREPARE p FROM 'SET tx_read_only = 0'
EXECUTE p
EXECUTE IMMEDIATE 'SET tx_read_only = 0'
EXECUTE IMMEDIATE CONCAT('SET tx_read', '_only = 0')
HANDLER t OPEN
LOAD DATA LOCAL INFILE 'x' INTO TABLE t
LOAD DATA INFILE '/etc/passwd' INTO TABLE t
SELECT 1 INTO OUTFILE '/tmp/keyward-out'
SELECT 1 INTO DUMPFILE '/tmp/keyward-out'
LOCK TABLES t WRITE
GRANT ALL ON *.* TO app
FLUSH TABLES
KILL 1
XA START 'a'
ANALYZE TABLE t
OPTIMIZE TABLE t
SELECT NEXT VALUE FOR s
SELECT NEXTVAL(s)
SELECT SETVAL(s, 100)
EXPLAIN INSERT INTO t VALUES (5)
WITH x AS (SELECT 5) DELETE FROM t
BINLOG 'x'
INSTALL SONAME 'x'
CHANGE MASTER TO MASTER_HOST = 'x'
SHUTDOWN
RESET QUERY CACHE
DELIMITER x
/*!40101 INSERT INTO t VALUES (5) */
/*!40101 SET tx_read_only = 0 */
/*!40101 SET @@SQL_MODE='ANSI_QUOTES' */
/*!40101 SET @a = 1, tx_read_only = 0 */
/*!40101 SET @a = 1; SET tx_read_only = 0 */
/*!40101 SET @a = 1 */; SET tx_read_only = 0
/*!40101 SET @a = 1 */ , tx_read_only = 0
/*!40101 SET @a = '*/' */; SET tx_read_only = 0; -- '
/*!40101 SELECT 1 /*!40101 INTO OUTFILE '/tmp/keyward-out' */ */
/*!40101SET tx_read_only = 0 */
/*!100100 SET NAMES gbk */
/*M!100100 SET SESSION TRANSACTION READ WRITE */
/*M!100100 SET tx_read_only=DEFAULT */
START TRANSACTION /*!40100 READ WRITE */
START TRANSACTION /*!40100 WITH CONSISTENT SNAPSHOT, READ WRITE */
START TRANSACTION /*!40100 WITH CONSISTENT SNAPSHOT */, READ WRITE
SELECT /*!40001 SQL_NO_CACHE */ 1 INTO OUTFILE '/tmp/keyward-out'
SELECT /*!40001 SQL_NO_CACHE */ 1 /*!40001 INTO OUTFILE '/tmp/keyward-out' */
SELECT /*!40001 SQL_NO_CACHE */ 1; SET tx_read_only = 0
SELECT 1 /*!40001 SQL_NO_CACHE */
SET wait_timeout = DEFAULT, tx_read_only = DEFAULT
SET wait_timeout = DEFAULT, NAMES gbk
SET character_set_client = DEFAULT
SET DEFAULT ROLE = DEFAULT
LOCK TABLES t READ /*!32311 LOCAL */
LOCK TABLES t READ
UNLOCK TABLES; INSERT INTO t VALUES (5)
SELECT GET_LOCK('a', 1)
SELECT 1 FROM t WHERE get_lock /* x */ ('a', 1)
SELECT LOAD_FILE('/etc/passwd')
SELECT `load_file` ('/etc/passwd')
SET @ tx_read_only = 0
SET @a = 1, @@tx_read_only = 0
