//! [`Dialect`]: differences between SQL dialects that rules on statements depend on.

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};
use sqlparser::dialect::{MySqlDialect, PostgreSqlDialect};
use sqlparser::tokenizer::Word;

/// The SQL of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    Postgres,
    /// MariaDB as well.
    Mysql,
}

/// Functions of PostgreSQL that read tables by the text of their names, files of the server, or statements of other sessions.
/// By how they begin.
const POSTGRES_READING: &[&str] = &[
    "cursor_to_xml",
    "database_to_xml",
    "lo_get",
    "pg_dirtyread",
    "pg_ls_",
    "pg_read_",
    "pg_stat_file",
    "pg_stat_get_activity",
    "pg_stat_get_backend_activity",
    "schema_to_xml",
    "table_to_xml",
];

/// The same of MySQL. Those of the Spider engine run a text at another server.
const MYSQL_READING: &[&str] = &["lastval", "load_file", "spider_"];

/// What drivers and frameworks read of PostgreSQL's catalogue without its name. Servers find it there, before the search path.
const POSTGRES_CATALOGUE: &[&str] = &[
    "pg_aggregate",
    "pg_am",
    "pg_attrdef",
    "pg_attribute",
    "pg_cast",
    "pg_class",
    "pg_collation",
    "pg_constraint",
    "pg_database",
    "pg_depend",
    "pg_description",
    "pg_enum",
    "pg_extension",
    "pg_index",
    "pg_indexes",
    "pg_inherits",
    "pg_language",
    "pg_matviews",
    "pg_namespace",
    "pg_opclass",
    "pg_operator",
    "pg_partitioned_table",
    "pg_policy",
    "pg_proc",
    "pg_range",
    "pg_rewrite",
    "pg_roles",
    "pg_sequence",
    "pg_sequences",
    "pg_settings",
    "pg_tables",
    "pg_tablespace",
    "pg_trigger",
    "pg_type",
    "pg_views",
];

/// Views of PostgreSQL's extensions, and functions of the same names, that show statements of other sessions. They are in the
/// schema in which the extension was made.
const POSTGRES_STATEMENTS: &[&str] =
    &["pg_stat_monitor", "pg_stat_monitor_internal", "pg_stat_statements", "pg_store_plans"];

/// A schema about the database itself, with the tables in it that have values of other tables, statements of other sessions,
/// or credentials.
type CatalogueTables = (&'static str, &'static [&'static str]);

const POSTGRES_WITH_DATA: &[CatalogueTables] = &[
    (
        "pg_catalog",
        &[
            "pg_authid",
            "pg_largeobject",
            "pg_shadow",
            "pg_stat_activity",
            "pg_statistic",
            "pg_statistic_ext_data",
            "pg_stats",
            "pg_stats_ext",
            "pg_stats_ext_exprs",
            "pg_subscription",
            "pg_user_mapping",
            "pg_user_mappings",
        ],
    ),
    ("information_schema", &["_pg_user_mappings", "user_mapping_options"]),
];

/// The same of MySQL.
const MYSQL_WITH_DATA: &[CatalogueTables] = &[(
    "information_schema",
    &[
        "column_statistics",
        "innodb_ft_index_cache",
        "innodb_ft_index_table",
        "innodb_locks",
        "innodb_trx",
        "processlist",
        "query_cache_info",
    ],
)];

/// Stands for a number in a form.
pub(super) const NUMBER: &str = "#";

/// Forms that the parser does not know, and those that need the same of the rules.
const POSTGRES_FORMS: &[(&[&str], &[&str])] = &[
    (&["FOR", "NO", "KEY", "UPDATE"], &["FOR", "UPDATE"]),
    (&["FOR", "KEY", "SHARE"], &["FOR", "SHARE"]),
    (&["BETWEEN", "SYMMETRIC"], &["BETWEEN"]),
];

/// The same of MySQL. What `SHOW` says of a table needs what `SHOW COLUMNS` needs. The longer form of two stands first.
const MYSQL_FORMS: &[(&[&str], &[&str])] = &[
    (&["FOR", "UPDATE", "WAIT", NUMBER], &["FOR", "UPDATE"]),
    (&["LOCK", "IN", "SHARE", "MODE", "WAIT", NUMBER], &["FOR", "SHARE"]),
    (&["LOCK", "IN", "SHARE", "MODE"], &["FOR", "SHARE"]),
    (&["SHOW", "INDEX"], &["SHOW", "COLUMNS"]),
    (&["SHOW", "INDEXES"], &["SHOW", "COLUMNS"]),
    (&["SHOW", "KEYS"], &["SHOW", "COLUMNS"]),
    (&["SHOW", "CREATE", "TABLE"], &["SHOW", "COLUMNS", "FROM"]),
    (&["SHOW", "CREATE", "VIEW"], &["SHOW", "COLUMNS", "FROM"]),
];

impl Dialect {
    pub(super) fn parser(self) -> &'static dyn sqlparser::dialect::Dialect {
        match self {
            Self::Postgres => &PostgreSqlDialect {},
            Self::Mysql => &MySqlDialect {},
        }
    }

    pub(super) fn forms(self) -> &'static [(&'static [&'static str], &'static [&'static str])] {
        match self {
            Self::Postgres => POSTGRES_FORMS,
            Self::Mysql => MYSQL_FORMS,
        }
    }

    /// Whether a function of this name reads tables or files that the statement does not name.
    pub(super) fn is_reading_function(self, word: &str) -> bool {
        let known = match self {
            Self::Postgres => POSTGRES_READING,
            Self::Mysql => MYSQL_READING,
        };
        known.iter().any(|begin| word.starts_with(begin))
    }

    /// The words that the lexer of the protocol finds in what the parser takes for one.
    pub(super) fn words(self, word: &Word) -> Vec<String> {
        let text = word.value.to_ascii_lowercase();
        match (self, word.quote_style) {
            // `@a` and `@@session.a`: the parser takes the sign for a letter.
            (Self::Mysql, None) => {
                text.split('@').filter(|part| !part.is_empty()).map(str::to_owned).collect()
            }
            _ => vec![text],
        }
    }

    /// A name, as the server compares it. That of a table in MySQL stays as it is written: whether case counts is a setting
    /// of the server.
    pub(super) fn name(self, name: &Ident) -> String {
        match (self, name.quote_style) {
            (Self::Postgres, None) => name.value.to_ascii_lowercase(),
            _ => name.value.clone(),
        }
    }

    /// The schema in which the server finds a table that a statement names without one, if that is certain.
    pub(super) fn catalogue(self, table: &str) -> Option<&'static str> {
        let is_of_it = self == Self::Postgres && POSTGRES_CATALOGUE.contains(&table);
        is_of_it.then_some("pg_catalog")
    }

    /// Whether a table of the catalogue has values of other tables, statements of other sessions, or credentials. Then the
    /// entry for the whole schema does not permit it.
    pub(super) fn has_data_of_others(self, schema: &str, table: &str) -> bool {
        let known = match self {
            Self::Postgres => POSTGRES_WITH_DATA,
            Self::Mysql => MYSQL_WITH_DATA,
        };
        known.iter().any(|(catalogue, tables)| {
            schema.eq_ignore_ascii_case(catalogue)
                && tables.iter().any(|name| name.eq_ignore_ascii_case(table))
        })
    }

    /// Whether a view or function of this name shows statements of other sessions, in any schema.
    pub(super) fn shows_statements(self, word: &str) -> bool {
        self == Self::Postgres && POSTGRES_STATEMENTS.contains(&word)
    }

    /// Whether the server knows the name as no table at all: `FROM DUAL`.
    pub(super) fn is_no_table(self, name: &ObjectName) -> bool {
        let [part] = &name.0[..] else { return false };
        let is_dual =
            |name: &Ident| name.quote_style.is_none() && name.value.eq_ignore_ascii_case("dual");
        self == Self::Mysql && part.as_ident().is_some_and(is_dual)
    }

    /// Whether the server reads a word of the name as `ONLY`, before the name of a table. The parser does not know it there.
    pub(super) fn has_only(self, name: &ObjectName) -> bool {
        let is_only = |part: &ObjectNamePart| {
            part.as_ident().is_some_and(|name| {
                name.quote_style.is_none() && name.value.eq_ignore_ascii_case("only")
            })
        };
        self == Self::Postgres && name.0.iter().any(is_only)
    }
}
