//! Tests of rules on statements: what they permit, and attempts to bypass them.

use std::collections::BTreeSet;

use super::*;
use crate::postgres::check;
use keyward_base::settings::{Settings, StatementKind};

const POSTGRES: Dialect = Dialect::Postgres;

pub(super) fn rules(dialect: Dialect, statements: &[&str], tables: &[&str]) -> EnforcedSettings {
    use StatementKind::{Delete, Insert, Merge, Select, Truncate, Update};
    let mut settings = Settings::default();
    let kinds = [Select, Insert, Update, Delete, Merge, Truncate];
    let kinds = kinds.into_iter().filter(|kind| statements.contains(&kind.as_str())).collect();
    settings.statements = Some(kinds).filter(|kinds: &BTreeSet<_>| !kinds.is_empty());
    let tables = tables.iter().map(|table| table.parse().expect("a table")).collect();
    settings.tables = Some(tables).filter(|tables: &BTreeSet<_>| !tables.is_empty());
    let rules = StatementRules::of(&settings, dialect).expect("there are some");
    EnforcedSettings { rules: Some(rules.into()), ..EnforcedSettings::default() }
}

pub(super) fn with_functions(dialect: Dialect, functions: &[&str]) -> EnforcedSettings {
    let functions = functions.iter().map(|name| name.parse().expect("a name")).collect();
    let settings = Settings { functions: Some(functions), ..Settings::default() };
    let rules = StatementRules::of(&settings, dialect).expect("there are some");
    EnforcedSettings { rules: Some(rules.into()), ..EnforcedSettings::default() }
}

#[test]
fn a_sequence_is_changed_only_where_rows_may_be_inserted_or_updated() {
    let reading = rules(POSTGRES, &["select"], &[]);
    for text in [
        "SELECT nextval('numbers')",
        "SELECT pg_catalog . \"setval\" /* a */ ('numbers', 1)",
        "SELECT ('numbers'::regclass).nextval",
        "WITH x AS (SELECT setval('numbers', 1)) SELECT * FROM x",
        "PREPARE p AS SELECT nextval('numbers')",
        "SELECT 1; SELECT NEXTVAL('numbers')",
    ] {
        assert!(check(text.as_bytes(), &reading).is_err(), "{text}");
    }
    let inserting = rules(POSTGRES, &["select", "insert"], &[]);
    assert!(check(b"SELECT setval('numbers', 1)", &inserting).is_err());
    assert_eq!(check(b"SELECT nextval('numbers')", &inserting), Ok(()));
    let updating = rules(POSTGRES, &["select", "update"], &[]);
    assert_eq!(check(b"SELECT setval('numbers', 1)", &updating), Ok(()));
    for text in [
        "SELECT currval('numbers'), lastval()",
        "SELECT last_value FROM numbers",
        "SELECT 'nextval(1)'",
    ] {
        assert_eq!(check(text.as_bytes(), &reading), Ok(()), "{text}");
    }
}

#[test]
fn a_notification_is_sent_by_no_statement_on_data() {
    let all = rules(POSTGRES, &["select", "insert", "update", "delete"], &[]);
    for text in [
        "NOTIFY jobs, 'x'",
        "SELECT pg_notify('jobs', 'x')",
        "SELECT 1; SELECT pg_catalog . \"pg_notify\" /* a */ ('jobs', 'x')",
        "INSERT INTO t SELECT PG_NOTIFY('jobs', $1)",
        "PREPARE p AS SELECT pg_notify($1, $2)",
    ] {
        assert!(check(text.as_bytes(), &all).is_err(), "{text}");
    }
    assert_eq!(check(b"SELECT 'pg_notify(1)'", &all), Ok(()));
}

const WITHIN: &[&str] = &[
    "",
    "-- nothing",
    "SELECT * FROM orders",
    "select o.id, count(*) from ORDERS o join sales.items i on i.order_id = o.id group by 1",
    "SELECT * FROM \"Quoted\" WHERE a = $1 AND b = 'x; DROP TABLE y' LIMIT 5",
    "SELECT * FROM generate_series(1, 10) AS n, orders",
    "WITH x AS (SELECT * FROM orders), y AS (SELECT * FROM x) SELECT * FROM y, x",
    "WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT n FROM x) SELECT * FROM x",
    "WITH RECURSIVE x AS (SELECT * FROM y), y AS (SELECT 1) SELECT * FROM x",
    "WITH orders AS (SELECT * FROM orders) SELECT * FROM orders",
    "SELECT (SELECT max(id) FROM orders) AS last, 1e10",
    "SELECT * FROM orders WHERE a NOT BETWEEN SYMMETRIC 3 AND (SELECT 1)",
    "(SELECT 1) UNION (SELECT id FROM orders)",
    "VALUES (1), (2)",
    "BEGIN; SELECT 1; COMMIT",
    "BEGIN READ ONLY",
    "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, NOT DEFERRABLE",
    "START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE DEFERRABLE",
    "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED",
    // What a pool of asyncpg sends when a session comes back.
    "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;",
    "SET TIME ZONE 'UTC'",
    "SET statement_timeout = 100",
    "SHOW server_version",
    "EXPLAIN ANALYZE SELECT * FROM orders",
    "COPY orders TO STDOUT",
    "COPY (SELECT * FROM orders) TO STDOUT WITH (FORMAT csv)",
    "COPY orders TO STDIN",
    "MOVE FORWARD ALL IN c",
    "MOVE -1 FROM c",
    "PREPARE p AS SELECT * FROM orders WHERE id = $1",
    "EXECUTE p(1)",
    "DEALLOCATE p",
    "DECLARE c CURSOR FOR SELECT * FROM orders",
    "FETCH 10 FROM c",
    "CLOSE c",
    "SAVEPOINT a",
    "ROLLBACK TO SAVEPOINT a",
    "RELEASE SAVEPOINT a",
    "DISCARD ALL",
    "SET SESSION AUTHORIZATION DEFAULT; DISCARD SEQUENCES",
    "SELECT lo_revenue FROM orders",
    "TABLE orders",
    "(TABLE \"Quoted\" LIMIT 1) UNION ALL TABLE sales.items ORDER BY 1",
    "WITH x AS (TABLE orders) TABLE x",
    "DECLARE c CURSOR FOR TABLE orders",
    "EXPLAIN (ANALYZE, COSTS OFF) TABLE orders",
    "SELECT 1 AS table, o.table, \"table\" FROM orders o",
    "SELECT a::text COLLATE \"C\" FROM orders ORDER BY (a || 'x')::text COLLATE pg_catalog.default",
    "SELECT 1 AS collate, o.collate FROM orders o",
    "SELECT a FROM orders WHERE b = U&'d\\0061t'",
];

#[test]
fn statements_within_the_rules_pass() {
    let kept = rules(POSTGRES, &["select"], &["orders", "sales.*", "Quoted"]);
    for &text in WITHIN {
        assert_eq!(check(text.as_bytes(), &kept), Ok(()), "{text}");
    }
    // What psql and the JDBC driver ask.
    let kept = rules(POSTGRES, &["select"], &["pg_catalog.*"]);
    for text in [
        "SELECT c2.oid::pg_catalog.regclass as \"Table\" FROM pg_catalog.pg_class c2",
        "SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relname OPERATOR(pg_catalog.~) '^(o)$' \
         COLLATE pg_catalog.default AND (c.relname || '')::text OPERATOR(pg_catalog.~) 'o' COLLATE \"C\"",
        "SELECT result.A_ATTNUM, (result.KEYS).x FROM (SELECT a.attnum AS A_ATTNUM, \
         information_schema._pg_expandarray(i.indkey) AS KEYS FROM pg_attribute a, pg_index i) result",
    ] {
        assert_eq!(check(text.as_bytes(), &kept), Ok(()), "{text}");
    }
    let kept = rules(POSTGRES, &["insert", "update"], &["orders"]);
    for text in [
        "INSERT INTO orders (a) VALUES (1) RETURNING id",
        "INSERT INTO orders VALUES (1) ON CONFLICT DO NOTHING",
        "UPDATE orders SET a = 2 WHERE id = 1",
        "COPY orders (a, b) FROM STDIN",
        "COPY orders FROM STDIN WITH (FORMAT csv)",
    ] {
        assert_eq!(check(text.as_bytes(), &kept), Ok(()), "{text}");
    }
}

/// Each is tried at a real server too (`tests/real/postgres`).
#[test]
fn ways_around_the_rules_are_refused() {
    let kept = rules(POSTGRES, &["select"], &["orders", "sales.*"]);
    for text in WAYS_AROUND.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let text = text.replace("\\r", "\r").replace("\\n", "\n");
        assert!(check(text.as_bytes(), &kept).is_err(), "{text}");
    }
}

const WAYS_AROUND: &str = include_str!("ways_around.sql");

#[test]
fn a_permitted_kind_of_statement_does_not_permit_another_kind() {
    for (kind, refused) in [
        ("insert", "INSERT INTO orders SELECT * FROM orders"),
        ("insert", "INSERT INTO orders VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1"),
        ("insert", "COPY orders TO STDOUT"),
        ("select", "SELECT * FROM orders FOR UPDATE"),
        ("select", "SELECT * FROM orders FOR NO KEY UPDATE"),
        ("select", "SELECT * FROM orders FOR\nkey/**/share OF orders"),
        ("select", "COPY orders FROM STDIN"),
        ("update", "DELETE FROM orders"),
        ("update", "UPDATE orders SET a = (SELECT 1)"),
        ("delete", "TRUNCATE orders"),
    ] {
        let kept = rules(POSTGRES, &[kind], &[]);
        let reason = check(refused.as_bytes(), &kept).expect_err(refused);
        assert!(reason.contains("is none of the permitted statements"), "{refused}: {reason}");
    }
}

#[test]
fn a_locking_clause_that_the_parser_does_not_know_hides_no_table() {
    let kept = rules(POSTGRES, &["select", "update"], &["orders"]);
    for clause in ["FOR NO KEY UPDATE", "FOR KEY SHARE OF o NOWAIT", "FOR UPDATE SKIP LOCKED"] {
        let passes = format!("SELECT * FROM orders o {clause}");
        assert_eq!(check(passes.as_bytes(), &kept), Ok(()), "{passes}");
        let refused = format!("SELECT * FROM orders o, (SELECT * FROM secret {clause}) s {clause}");
        let reason = check(refused.as_bytes(), &kept).expect_err(&refused);
        assert!(reason.contains("secret is none"), "{refused}: {reason}");
    }
}

/// Rails, psycopg and SQLAlchemy read it without the name of its schema.
#[test]
fn the_postgres_catalogue_is_readable_only_where_it_is_listed() {
    let text = "SELECT t.oid, r.rngtypid FROM pg_type t LEFT JOIN pg_range AS r ON oid = rngtypid";
    let kept = rules(POSTGRES, &["select"], &["orders", "pg_catalog.*"]);
    assert_eq!(check(text.as_bytes(), &kept), Ok(()));
    for refused in [
        "SELECT * FROM public.pg_type",
        "SELECT * FROM \"PG_TYPE\"",
        "SELECT * FROM pg_stat_statements",
        "SELECT * FROM other",
    ] {
        assert!(check(refused.as_bytes(), &kept).is_err(), "{refused}");
    }
    let kept = rules(POSTGRES, &["select"], &["orders", "pg_catalog.pg_type"]);
    let reason = check(text.as_bytes(), &kept).expect_err("one is not listed");
    assert!(reason.contains("pg_range is none of the permitted tables"), "{reason}");
    let kept = rules(POSTGRES, &["select"], &["orders"]);
    assert!(check(text.as_bytes(), &kept).is_err());
}

/// They have values of other tables, statements of other sessions, or credentials.
#[test]
fn the_entry_for_the_whole_catalogue_does_not_permit_its_tables_with_data_of_others() {
    let tables = ["orders", "pg_catalog.*", "information_schema.*"];
    let whole = rules(POSTGRES, &["select"], &tables);
    for table in [
        "pg_catalog.pg_stats",
        "\"pg_catalog\".\"pg_statistic\"",
        "PG_CATALOG.PG_STATS_EXT",
        "pg_catalog.pg_stat_activity",
        "pg_catalog.pg_largeobject",
        "pg_catalog.pg_user_mappings",
        "pg_catalog.pg_authid",
        "pg_catalog.pg_shadow",
        "pg_catalog.pg_subscription",
        "information_schema.user_mapping_options",
        "information_schema._pg_user_mappings",
        "pg_stats",
    ] {
        let text = format!("SELECT * FROM {table} WHERE true");
        let reason = check(text.as_bytes(), &whole).expect_err(table);
        assert!(reason.contains("is none of the permitted tables"), "{table}: {reason}");
    }
    for text in [
        "SELECT * FROM pg_catalog.pg_class",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM orders",
    ] {
        assert_eq!(check(text.as_bytes(), &whole), Ok(()), "{text}");
    }
    for text in [
        "SELECT query FROM pg_stat_get_activity(NULL)",
        "SELECT pg_catalog.pg_stat_get_backend_activity(1)",
    ] {
        assert!(check(text.as_bytes(), &whole).is_err(), "{text}");
    }
    let named = rules(POSTGRES, &["select"], &["pg_catalog.*", "pg_catalog.pg_stats"]);
    assert_eq!(check(b"SELECT * FROM pg_catalog.pg_stats", &named), Ok(()));
    assert!(check(b"SELECT * FROM pg_catalog.pg_statistic", &named).is_err());
}

/// Whatever the tables are.
#[test]
fn only_functions_of_the_server_and_of_the_connection_are_called() {
    let kept = with_functions(POSTGRES, &["slugify", "app.*", "total"]);
    for text in [
        "SELECT slugify(name), app.score(1), pg_catalog.lower('A'), \"slugify\"('a') FROM orders",
        "SELECT SLUGIFY('A'), count(*) FILTER (WHERE true), ARRAY(SELECT 1), ROW(1, 2)",
        "SELECT a IN (1, 2), a::varchar(10), CAST(a AS numeric(5, 2)), a = ANY (ARRAY[1]) FROM orders",
        "INSERT INTO orders (a, b) VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET b = excluded.b",
        "WITH x(total, b) AS (SELECT 1, 2) SELECT x.total, x.note FROM x",
        "SELECT o.note, public.orders.note, o.notes[1] FROM orders o",
        "SELECT n.n, n FROM generate_series(1, 3) AS n",
        "SELECT x.total, x.key, e.value FROM json_to_record($1) AS x(total int), json_each($2) e",
        "SELECT u.a, u.i FROM unnest(ARRAY[1]) WITH ORDINALITY AS u(a, i)",
        "SELECT (item).total, (json_each(doc)).key FROM orders",
        "SELECT coalesce(a, now()), extract(year FROM b), current_date, session_user FROM orders",
    ] {
        assert_eq!(check(text.as_bytes(), &kept), Ok(()), "{text}");
    }
    for (text, name) in [
        ("SELECT leave()", "leave"),
        ("SELECT public.slugify('a')", "public.slugify"),
        ("SELECT public.lower('A')", "public.lower"),
        ("SELECT \"LOWER\"('A')", "LOWER"),
        ("SELECT (item).note FROM orders", "note"),
        ("SELECT e.note FROM json_each($1) e", "note"),
        ("SELECT y.y FROM generate_series(1, 3) AS y(a)", "y"),
        ("SELECT x.note FROM lower('a') AS x, (SELECT 1 FROM lower('a') AS x(note)) y", "note"),
        ("INSERT INTO orders VALUES (leave())", "leave"),
        ("SELECT \"a'b\"()", "a name"),
    ] {
        let reason = check(text.as_bytes(), &kept).expect_err(text);
        let expected =
            format!("{name} is none of the permitted functions: add it to the setting functions");
        assert_eq!(reason, expected, "{text}");
    }
    assert!(check(b"SELECT x.total FROM current_user x", &kept).is_err());
    let kinds = rules(POSTGRES, &["select"], &[]);
    assert!(check(b"SELECT slugify('a')", &kinds).is_err(), "functions are limited as well");
    assert_eq!(check(b"SELECT upper('a')", &kinds), Ok(()));
}

/// The path decides which function a name is.
#[test]
fn the_search_path_has_only_schemas_in_which_the_same_functions_are_permitted() {
    let kept = with_functions(POSTGRES, &["slugify", "app.slugify"]);
    assert_eq!(check(b"SET search_path TO app", &kept), Ok(()));
    for text in ["SET search_path TO other", "SELECT set_config('search_path', 'app', false)"] {
        assert!(check(text.as_bytes(), &kept).is_err(), "{text}");
    }
    let qualified = with_functions(POSTGRES, &["app.slugify"]);
    assert_eq!(check(b"SET search_path TO other", &qualified), Ok(()));
    assert!(check(b"SELECT slugify('a')", &qualified).is_err());
}

#[test]
fn set_config_changes_the_search_path_only_without_a_list_of_tables() {
    let text = b"SELECT pg_catalog.set_config('search_path', 'private', false)";
    assert_eq!(check(text, &rules(POSTGRES, &["select"], &[])), Ok(()));
    assert!(check(text, &rules(POSTGRES, &["select"], &["orders"])).is_err());
}

#[test]
fn the_search_path_has_only_schemas_in_which_the_same_tables_are_permitted() {
    let kept = rules(POSTGRES, &["select"], &["orders", "public.orders", "sales.*", "hr.staff"]);
    for text in [
        "SET search_path TO private",
        "SET search_path TO hr",
        "SET search_path TO public, hr",
        "SET search_path TO public, pg_catalog",
        "SET search_path TO public, pg_temp",
        "SET search_path TO \"$user\", public",
        "SET search_path TO \"Public\"",
        "SET search_path TO 'public, private'",
        "SET search_path TO E'public'",
        "SET search_path TO DEFAULT",
        "SET search_path TO public,",
        "SET search_path TO",
        "SET search_path TO public; SELECT * FROM secret",
        "SET SCHEMA 'public'",
        "RESET search_path",
    ] {
        assert!(check(text.as_bytes(), &kept).is_err(), "{text}");
    }
    let reason = check(b"SET search_path TO hr", &kept).expect_err("it has other tables");
    assert!(reason.contains("search_path may name only schemas"), "{reason}");
    for text in [
        "SET search_path TO public",
        "SET search_path = 'sales', \"public\"",
        "SET LOCAL search_path TO SALES",
        "SET SESSION search_path TO \"public\", sales",
    ] {
        assert_eq!(check(text.as_bytes(), &kept), Ok(()), "{text}");
    }
}

/// Each has a part that the form of a transaction does not have.
#[test]
fn statements_that_look_like_transaction_commands_are_checked_by_the_rules() {
    let kept = rules(POSTGRES, &["select"], &["orders"]);
    for text in [
        "BEGIN SELECT * FROM secret",
        "SET CONSTRAINTS ALL DEFERRED, search_path = x",
        "MOVE (SELECT 1 FROM secret) IN c",
        "BEGIN (SELECT 1 FROM secret)",
    ] {
        assert!(check(text.as_bytes(), &kept).is_err(), "{text}");
    }
}

/// `ONLY (name)` looks like the call of a function.
#[test]
fn the_only_keyword_hides_no_table() {
    let kept = rules(POSTGRES, &["select", "update", "delete", "merge"], &["orders"]);
    for text in [
        "SELECT * FROM ONLY (secret)",
        "WITH \"only\" AS (SELECT 1) SELECT * FROM ONLY secret",
        "UPDATE orders SET a = 1 FROM ONLY (secret)",
        "DELETE FROM orders USING ONLY (secret)",
        "MERGE INTO orders USING ONLY (secret) s ON true WHEN MATCHED THEN DELETE",
    ] {
        let reason = check(text.as_bytes(), &kept).expect_err(text);
        assert!(reason.contains("ONLY is not permitted"), "{text}: {reason}");
    }
    let quoted = check(b"SELECT * FROM \"only\"(1), orders", &kept).expect_err("it is a function");
    assert!(quoted.contains("only is none of the permitted functions"), "{quoted}");
    let kept = rules(POSTGRES, &["select"], &[]);
    assert_eq!(check(b"SELECT * FROM ONLY (secret)", &kept), Ok(()));
}

#[test]
fn a_deep_statement_is_parsed_or_refused_and_never_ends_the_process() {
    let kept = rules(POSTGRES, &["select"], &[]);
    let sum = |terms: usize| format!("SELECT 1{}", "+1".repeat(terms));
    assert_eq!(check(sum(1_900).as_bytes(), &kept), Ok(()));
    assert!(check(sum(100_000).as_bytes(), &kept).is_err());
    let either = format!("SELECT a{}", " OR a".repeat(900));
    assert_eq!(check(either.as_bytes(), &kept), Ok(()));
    let union = format!("SELECT 1{}", " UNION SELECT 1".repeat(600));
    assert_eq!(check(union.as_bytes(), &kept), Ok(()));
    // A comma ends no tree of queries, and none in a string ends an item.
    let unions = format!("SELECT 1, 1{}", " UNION SELECT 1, 1".repeat(10_000));
    assert!(check(unions.as_bytes(), &kept).is_err());
    let strings = format!("SELECT ''{}", " || ','".repeat(20_000));
    assert!(check(strings.as_bytes(), &kept).is_err());
    let nested = format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(check(nested.as_bytes(), &kept).is_err());
    let cast = format!("SELECT 1{}", "::int".repeat(600));
    assert_eq!(check(cast.as_bytes(), &kept), Ok(()));
}

/// The parser reads the arguments of each of them twice.
#[test]
fn nested_calls_of_position_are_refused_before_they_are_parsed() {
    let kept = rules(POSTGRES, &["select"], &[]);
    let nested = |times: usize, between: &str| {
        let begin = format!("POSITION{between}(").repeat(times);
        format!("SELECT {begin}1{}", ",'b')".repeat(times))
    };
    for between in ["", " ", "/* a */\n"] {
        let reason = check(nested(45, between).as_bytes(), &kept).expect_err("it is too deep");
        assert!(reason.contains("calls of POSITION are nested"), "{reason}");
    }
    let within_others = format!("SELECT {}1{}", "f((position(".repeat(12), ")))".repeat(12));
    assert!(check(within_others.as_bytes(), &kept).is_err());
    let beside = format!("SELECT 1{}", ", position('a' IN b)".repeat(100));
    assert_eq!(check(beside.as_bytes(), &kept), Ok(()));
    let within = "SELECT position(substr('a', position('b' IN a)) IN b) FROM orders";
    assert_eq!(check(within.as_bytes(), &kept), Ok(()));
}

/// SQLAlchemy casts each value, and sends 1,000 rows at once.
#[test]
fn an_insert_of_many_rows_with_casts_passes() {
    let kept = rules(POSTGRES, &["select", "insert"], &["orders"]);
    let rows: Vec<String> = (0..1_000)
        .map(|row| {
            let first = 3 * row + 1;
            format!("(${first}::INTEGER, ${}::VARCHAR, ${}::BOOLEAN)", first + 1, first + 2)
        })
        .collect();
    let insert = format!("INSERT INTO orders (a, b, c) VALUES {} RETURNING a", rows.join(", "));
    assert_eq!(check(insert.as_bytes(), &kept), Ok(()));
    let hidden = insert.replace("$2999::VARCHAR", "(SELECT a FROM secret)");
    assert_ne!(insert, hidden);
    let reason = check(hidden.as_bytes(), &kept).expect_err("secret is not listed");
    assert!(reason.contains("secret is none"), "{reason}");
}
