//! Tests of rules on statements of MySQL: what they permit, and attempts to bypass them.

use super::*;
use crate::mysql::check;

fn rules(statements: &[&str], tables: &[&str]) -> EnforcedSettings {
    super::tests::rules(Dialect::Mysql, statements, tables)
}

#[test]
fn statements_within_the_rules_pass() {
    let kept = rules(&["select"], &["orders", "sales.*", "Quoted"]);
    for text in [
        "",
        "-- nothing",
        "SELECT * FROM orders",
        "select `o`.id, count(*) from orders o join sales.items as i on i.order_id = o.id group by 1",
        "SELECT * FROM Quoted WHERE a = ? AND b = \"x; DROP TABLE y\" LIMIT 5, 10",
        "SELECT @a, @@session.autocommit, @@version FROM DUAL",
        "SELECT a, 0xff, 1e5, x'41', n'a' FROM orders USE INDEX (i) WHERE a <=> NULL",
        "WITH x AS (SELECT * FROM orders), y AS (SELECT * FROM x) SELECT * FROM y, x",
        "WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT n FROM x) SELECT * FROM x",
        "WITH RECURSIVE x AS (SELECT 1), y AS (SELECT n FROM x UNION SELECT n FROM y) SELECT * FROM y",
        "SELECT * FROM (WITH x AS (SELECT 1), y AS (SELECT * FROM x) SELECT * FROM y) z",
        "WITH x AS (SELECT 1) SELECT * FROM (WITH y AS (SELECT 2) SELECT * FROM x, y) z",
        "SELECT CAST(a AS CHAR), GROUP_CONCAT(a ORDER BY a SEPARATOR ',') FROM orders",
        "SELECT a DIV 2, a % 2, a REGEXP 'x', DATE_ADD(NOW(), INTERVAL 1 DAY) FROM orders",
        "SELECT 'é' FROM orders -- é",
        "(SELECT 1) UNION (SELECT id FROM orders)",
        "BEGIN; SELECT 1; COMMIT",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET NAMES utf8mb4",
        "SET NAMES 'utf8mb4' COLLATE 'utf8mb4_unicode_ci'",
        "SET NAMES utf8mb4, @@SESSION.sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
        "SELECT 1; SET sql_mode = CONCAT('TRADITIONAL', '')",
        "SET character_set_results = NULL",
        "SET autocommit=0",
        "SET time_zone = '+00:00', @x = 1",
        "SHOW VARIABLES LIKE 'sql_mode'",
        "SHOW SESSION STATUS",
        "SHOW WARNINGS",
        "EXPLAIN SELECT * FROM orders",
        "DESCRIBE orders",
        "SHOW FULL FIELDS FROM `orders`",
        "SHOW COLUMNS IN items FROM sales LIKE 'a%'",
        "SHOW INDEX FROM `orders`",
        "show indexes in items from sales",
        "SHOW /* a */ KEYS FROM sales.items WHERE Key_name = 'PRIMARY'",
        "SHOW CREATE TABLE `orders`",
        "SHOW CREATE VIEW sales.items",
        "DESC orders a",
        "DESCRIBE `sales`.`items` 'a%'",
        "SELECT /*!40001 SQL_NO_CACHE */ `a` FROM `orders`",
        "/*!40103 SET TIME_ZONE='+00:00' */",
        "UNLOCK TABLES",
        "SAVEPOINT a; ROLLBACK TO SAVEPOINT a; RELEASE SAVEPOINT a",
    ] {
        assert_eq!(check(text.as_bytes(), &kept), Ok(()), "{text}");
    }
    let kept = rules(&["insert", "update", "delete"], &["orders"]);
    for text in [
        "INSERT INTO orders (a) VALUES (1), (2)",
        "INSERT IGNORE INTO orders VALUES (1)",
        "INSERT INTO orders VALUES (1) ON DUPLICATE KEY UPDATE a = VALUES(a)",
        "REPLACE INTO orders VALUES (1)",
        "UPDATE orders SET a = 2 WHERE id = 1 LIMIT 1",
        "DELETE FROM orders WHERE id = 1",
    ] {
        assert_eq!(check(text.as_bytes(), &kept), Ok(()), "{text}");
    }
}

/// Each is tried at a real server too (`tests/real/mysql/rules.rs`).
#[test]
fn ways_around_the_rules_are_refused() {
    let kept = rules(&["select"], &["orders", "sales.*"]);
    for text in WAYS_AROUND.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let text = text.replace("\\n", "\n");
        assert!(check(text.as_bytes(), &kept).is_err(), "{text}");
    }
}

const WAYS_AROUND: &str = include_str!("ways_around_mysql.sql");

#[test]
fn a_permitted_kind_of_statement_does_not_permit_another_kind() {
    for (kinds, refused) in [
        (&["insert"][..], "INSERT INTO orders SELECT * FROM orders"),
        (&["insert"], "INSERT INTO orders VALUES (1) ON DUPLICATE KEY UPDATE a = 1"),
        (&["insert"], "REPLACE INTO orders VALUES (1)"),
        (&["delete"], "REPLACE INTO orders VALUES (1)"),
        (&["select"], "SELECT * FROM orders FOR UPDATE"),
        (&["select"], "SELECT * FROM orders LOCK IN SHARE MODE"),
        (&["update"], "DELETE FROM orders"),
        (&["update"], "UPDATE orders SET a = (SELECT 1)"),
        (&["delete"], "TRUNCATE orders"),
        (&["insert"], "DESCRIBE orders"),
        (&["insert"], "DESC orders a"),
        (&["select"], "SELECT * FROM orders FOR UPDATE WAIT 5"),
        (&["select"], "SELECT * FROM orders LOCK IN SHARE MODE WAIT 5"),
    ] {
        let kept = rules(kinds, &[]);
        let reason = check(refused.as_bytes(), &kept).expect_err(refused);
        assert!(reason.contains("is none of the permitted statements"), "{refused}: {reason}");
    }
    let kept = rules(&["select"], &[]);
    for text in [
        "USE other",
        "SHOW TABLES",
        "SHOW FULL COLUMNS FROM t",
        "SHOW CREATE TABLE `t`",
        "SHOW CREATE VIEW v",
        "SELECT * FROM `é`",
        "SELECT a AS größe FROM t",
    ] {
        assert_eq!(check(text.as_bytes(), &kept), Ok(()), "{text}");
    }
}

#[test]
fn show_statements_about_a_table_require_a_permitted_select() {
    let kept = rules(&["insert"], &["orders"]);
    for text in ["SHOW INDEX FROM orders", "SHOW KEYS IN orders", "SHOW CREATE TABLE orders"] {
        let reason = check(text.as_bytes(), &kept).expect_err(text);
        assert!(reason.contains("select is none of the permitted statements"), "{text}: {reason}");
    }
}

#[test]
fn the_definitions_of_users_and_programs_are_not_shown() {
    let kept = rules(&["select"], &[]);
    for name in ["USER app", "PROCEDURE p", "FUNCTION f", "TRIGGER t", "EVENT e", "SERVER s"] {
        let text = format!("SHOW CREATE {name}");
        assert!(check(text.as_bytes(), &kept).is_err(), "{text}");
    }
}

#[test]
fn a_row_is_locked_where_updates_are_permitted() {
    let kept = rules(&["select", "update"], &["orders"]);
    for clause in ["LOCK IN SHARE MODE", "LOCK IN SHARE MODE WAIT 5", "FOR UPDATE WAIT 5"] {
        let text = format!("SELECT * FROM orders WHERE id = 1 {clause}");
        assert_eq!(check(text.as_bytes(), &kept), Ok(()), "{text}");
        let text = format!("SELECT * FROM orders, (SELECT * FROM secret {clause}) s");
        assert!(check(text.as_bytes(), &kept).is_err(), "{text}");
    }
}

#[test]
fn only_functions_of_the_server_and_of_the_connection_are_called() {
    let kept = super::tests::with_functions(Dialect::Mysql, &["slugify", "app.*"]);
    for text in [
        "SELECT slugify(name), app.score(1), concat('a', Now()), `concat`('a') FROM orders",
        "SELECT a IN (1, 2), CAST(a AS CHAR(10)), IF(a, 1, 2), o.note FROM orders o",
        "INSERT INTO orders (a, b) VALUES (1, UUID()) ON DUPLICATE KEY UPDATE a = VALUES(a)",
        "SET @a = CONCAT('a', 'b')",
    ] {
        assert_eq!(check(text.as_bytes(), &kept), Ok(()), "{text}");
    }
    for (text, name) in [
        ("SELECT leave()", "leave"),
        ("SELECT other.slugify('a')", "other.slugify"),
        ("SELECT other.concat('a')", "other.concat"),
        ("SELECT LOAD_FILE('/etc/passwd')", "LOAD_FILE"),
        ("SET @a = CONCAT(leave(), 'b')", "leave"),
    ] {
        let reason = check(text.as_bytes(), &kept).expect_err(text);
        let expected =
            format!("{name} is none of the permitted functions: add it to the setting functions");
        assert_eq!(reason, expected, "{text}");
    }
    // Behind it, `slugify` would be another function.
    assert!(check(b"USE other", &kept).is_err());
    let qualified = super::tests::with_functions(Dialect::Mysql, &["app.slugify"]);
    assert_eq!(check(b"USE other", &qualified), Ok(()));
    assert!(check(b"SELECT slugify('a')", &qualified).is_err());
}

#[test]
fn the_name_of_a_table_is_compared_as_it_is_written() {
    let kept = rules(&["select"], &["orders", "Mixed", "größe"]);
    for (text, passes) in [
        ("SELECT * FROM orders", true),
        ("SELECT * FROM Orders", false),
        ("SELECT * FROM Mixed", true),
        ("SELECT * FROM mixed", false),
        // Its bytes are another name in another character set.
        ("SELECT * FROM `größe`", false),
    ] {
        assert_eq!(check(text.as_bytes(), &kept).is_ok(), passes, "{text}");
    }
}

/// The parser reads the arguments of each of them twice.
#[test]
fn nested_calls_of_position_are_refused_before_they_are_parsed() {
    let kept = rules(&["select"], &[]);
    let nested = format!("SELECT {}1{}", "position(".repeat(45), ",'b')".repeat(45));
    let reason = check(nested.as_bytes(), &kept).expect_err("it is too deep");
    assert!(reason.contains("calls of POSITION are nested"), "{reason}");
    assert_eq!(check(b"SELECT POSITION('a' IN b) FROM `position`", &kept), Ok(()));
}

/// The parser copies what is before each `DIV`.
#[test]
fn many_divisions_of_a_long_list_are_parsed_as_one() {
    let kept = rules(&["select"], &["orders"]);
    let list = "1,".repeat(50_000);
    let divided = format!("SELECT CONCAT({list}1){}", " DIV 1".repeat(1_900));
    assert_eq!(check(divided.as_bytes(), &kept), Ok(()));
    let hidden = format!("SELECT 1{} DIV (SELECT 1 FROM secret)", " DIV 1".repeat(10));
    let reason = check(hidden.as_bytes(), &kept).expect_err("secret is not listed");
    assert!(reason.contains("secret is none"), "{reason}");
    for text in ["SELECT o.div FROM orders o", "SELECT `div` DIV 2 FROM orders"] {
        assert_eq!(check(text.as_bytes(), &kept), Ok(()), "{text}");
    }
}

/// They have values of other tables, or statements of other sessions.
#[test]
fn the_entry_for_the_whole_catalogue_does_not_permit_its_tables_with_data_of_others() {
    for catalogue in ["information_schema", "INFORMATION_SCHEMA"] {
        let whole = rules(&["select"], &["orders", &format!("{catalogue}.*")]);
        for table in ["processlist", "PROCESSLIST", "`ProcessList`", "COLUMN_STATISTICS"] {
            let text = format!("SELECT * FROM {catalogue}.{table}");
            let reason = check(text.as_bytes(), &whole).expect_err(&text);
            assert!(reason.contains("is none of the permitted tables"), "{text}: {reason}");
        }
        let text = format!("SELECT * FROM {catalogue}.TABLES");
        assert_eq!(check(text.as_bytes(), &whole), Ok(()), "{text}");
        let named = rules(&["select"], &[&format!("{catalogue}.processlist")]);
        let text = format!("SELECT * FROM {catalogue}.processlist");
        assert_eq!(check(text.as_bytes(), &named), Ok(()), "{text}");
    }
}
