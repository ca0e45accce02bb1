//! [`EnforcedSettings`]: settings of a session that its statements cannot change.

use std::sync::Arc;

use super::{Dialect, StatementRules};
use keyward_rules::policy::DatabasePermit;

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

    /// Whether the rules name tables. Then a session must not change what a name means.
    pub fn names_tables(&self) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.names_tables())
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
