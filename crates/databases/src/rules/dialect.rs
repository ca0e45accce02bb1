//! [`Dialect`]: differences between SQL dialects that rules on statements depend on.

use std::collections::HashSet;
use std::sync::LazyLock;

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};
use sqlparser::dialect::{MySqlDialect, PostgreSqlDialect};
use sqlparser::tokenizer::Word;

use crate::lists::lines;

/// The SQL of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    Postgres,
    /// MariaDB as well.
    Mysql,
}

static POSTGRES_FUNCTIONS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| words(include_str!("functions_postgres.txt")));

static MYSQL_FUNCTIONS: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| words(include_str!("functions_mysql.txt")));

static CATALOGUE: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| words(include_str!("catalogue.txt")));

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

    /// Whether the list of the server's own functions has this one. In MySQL, a name behind that of a database is never one of them.
    pub(super) fn has_function(self, schema: Option<&str>, function: &str) -> bool {
        match (self, schema) {
            (Self::Postgres, None | Some("pg_catalog")) => POSTGRES_FUNCTIONS.contains(function),
            (Self::Postgres, Some(schema)) => {
                POSTGRES_FUNCTIONS.contains(&*format!("{schema}.{function}"))
            }
            (Self::Mysql, None) => MYSQL_FUNCTIONS.contains(&*function.to_ascii_lowercase()),
            (Self::Mysql, Some(_)) => false,
        }
    }

    /// Whether one of these functions gives a value with this field.
    pub(super) fn has_field(self, field: &str) -> bool {
        self.has_function(None, &format!(".{field}"))
    }

    /// Whether the server reads the name in `FROM` as the call of a function.
    pub(super) fn is_bare_function(self, name: &ObjectName) -> bool {
        let [part] = &name.0[..] else { return false };
        part.as_ident().is_some_and(|name| {
            let listed = format!("={}", name.value.to_ascii_lowercase());
            name.quote_style.is_none() && self.has_function(None, &listed)
        })
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
        let is_of_it = self == Self::Postgres && CATALOGUE.contains(table);
        is_of_it.then_some("pg_catalog")
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

fn words(list: &'static str) -> HashSet<&'static str> {
    lines(list).flat_map(str::split_whitespace).collect()
}

/// Whether a table of the catalogue has values of other tables, statements of other sessions, or credentials. Then the entry for
/// the whole schema does not permit it.
pub(super) fn has_data_of_others(schema: &str, table: &str) -> bool {
    CATALOGUE.contains(&*format!("{schema}.{table}").to_ascii_lowercase())
}
