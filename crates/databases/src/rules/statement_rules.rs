//! [`StatementRules`]: the kinds of statements, the tables and the functions that the settings of a connection permit.
//! [`EnforcedSettings`]: settings of a session that its statements cannot change.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::dialect::{Dialect, has_data_of_others};
use keyward_base::settings::{NamePattern, Settings, StatementKind};
use keyward_rules::policy::DatabasePermit;

/// Why a statement is refused. A sentence without a full stop and without quotes.
pub type Reason = Cow<'static, str>;

/// The rules of a connection on statements.
#[derive(Debug, Eq, PartialEq)]
pub struct StatementRules {
    pub(super) dialect: Dialect,
    /// `None`: all kinds of statements on data.
    kinds: Option<BTreeSet<StatementKind>>,
    /// `None`: all tables.
    tables: Option<BTreeSet<NamePattern>>,
    /// Beside those of the server.
    functions: BTreeSet<NamePattern>,
}

impl StatementRules {
    /// The rules of a connection's settings, if they have some.
    pub fn of(settings: &Settings, dialect: Dialect) -> Option<Self> {
        let (kinds, tables) = (settings.statements.clone(), settings.tables.clone());
        let functions = settings.functions.clone().unwrap_or_default();
        settings.has_statement_rules().then_some(Self { dialect, kinds, tables, functions })
    }

    /// Whether they are about tables. Then a session must not change what a name means.
    pub fn names_tables(&self) -> bool {
        self.tables.is_some()
    }

    /// Whether they name tables, or functions without a schema. Then the search path, or the chosen database, decides what a
    /// statement reaches.
    pub fn fixes_path(&self) -> bool {
        self.names_tables() || self.functions.iter().any(|it| it.bare_name().is_some())
    }

    /// Whether every table and function that they permit without a schema is permitted in this schema too.
    pub fn permits_schema(&self, schema: &str) -> bool {
        [self.tables.as_ref(), Some(&self.functions)].into_iter().flatten().all(|names| {
            let permits = |name| names.iter().any(|pattern| pattern.matches(Some(schema), name));
            names.iter().filter_map(NamePattern::bare_name).all(permits)
        })
    }

    /// Checks that the rules permit a kind.
    pub fn kind(&self, kind: StatementKind) -> Result<(), Reason> {
        match &self.kinds {
            Some(kinds) if !kinds.contains(&kind) => {
                Err(format!("{} is none of the permitted statements", kind.as_str()).into())
            }
            _ => Ok(()),
        }
    }

    /// Checks that the rules permit a table.
    pub(super) fn table(&self, schema: Option<&str>, table: &str) -> Result<(), Reason> {
        let Some(tables) = &self.tables else { return Ok(()) };
        let catalogue = self.dialect.catalogue(table).filter(|_| schema.is_none());
        let is_named_only = schema.is_some_and(|schema| has_data_of_others(schema, table));
        let permits = |pattern: &NamePattern| {
            pattern.matches(schema, table) && !(is_named_only && is_whole(pattern, schema))
                || catalogue.is_some_and(|catalogue| pattern.matches(Some(catalogue), table))
        };
        if tables.iter().any(permits) {
            return Ok(());
        }
        Err(format!("{} is none of the permitted tables", shown(schema, table)).into())
    }

    /// Checks that the rules permit a function.
    pub(super) fn function(&self, schema: Option<&str>, function: &str) -> Result<(), Reason> {
        let is_listed = || self.functions.iter().any(|it| it.matches(schema, function));
        match self.dialect.has_function(schema, function) || is_listed() {
            true => Ok(()),
            false => Err(format!(
                "{} is none of the permitted functions: add it to the setting functions",
                shown(schema, function)
            )
            .into()),
        }
    }

    /// Checks a field of a value, which the server reads as the call of a function if the value has no such field.
    pub(super) fn field(&self, field: &str) -> Result<(), Reason> {
        match self.dialect.has_field(field) {
            true => Ok(()),
            false => self.function(None, field),
        }
    }
}

/// A name in a refusal, where it becomes a part of a statement.
fn shown(schema: Option<&str>, name: &str) -> String {
    let name = schema.map(|schema| format!("{schema}.{name}")).unwrap_or(name.to_owned());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    if name.chars().all(is_plain) { name } else { "a name".to_owned() }
}

/// Whether an entry is for all tables of the schema: one for a single table has its name.
fn is_whole(pattern: &NamePattern, schema: Option<&str>) -> bool {
    pattern.matches(schema, "")
}

/// Settings that the statements of a session cannot change.
#[derive(Clone, Debug, Default)]
pub struct EnforcedSettings {
    pub read_only: bool,
    /// Whether `statement_timeout` was set for it.
    pub statement_timeout: bool,
    /// Whether it has a role that the server ends when the session gets its user again, as by `DISCARD ALL`.
    pub loses_role: bool,
    pub rules: Option<Arc<StatementRules>>,
}

impl EnforcedSettings {
    /// The settings of a session that is read-only or has rules on statements; `None` for other
    /// sessions.
    pub fn of(permit: &DatabasePermit, dialect: Dialect) -> Option<Self> {
        let settings = permit.wanted().settings.as_deref()?;
        let rules = StatementRules::of(settings, dialect).map(Arc::new);
        let read_only = settings.read_only == Some(true);
        let statement_timeout = settings.statement_timeout.is_some();
        // Servers of PostgreSQL differ: the session asks its own one.
        let loses_role = settings.role.is_some();
        let kept = Self { read_only, statement_timeout, loses_role, rules };
        (read_only || kept.rules.is_some()).then_some(kept)
    }

    /// Whether the session must not choose where names without a schema are found.
    pub fn fixes_path(&self) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.fixes_path())
    }

    /// What a refusal begins with.
    pub fn refuser(&self) -> &'static str {
        match self.rules {
            None => "the connection is read-only",
            Some(_) => "refused by the connection",
        }
    }
}

/// Whether the statements of a session are recorded.
pub fn is_recorded(permit: &DatabasePermit) -> bool {
    let settings = permit.wanted().settings.as_deref();
    settings.is_some_and(|settings| settings.audit_statements == Some(true))
}
