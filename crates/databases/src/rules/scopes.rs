//! [`Scopes`]: names that `WITH` gives to queries, where they hide tables. A query of a `WITH` sees those before it, and
//! with `RECURSIVE` all of them; the body sees all.

use std::ptr;

use sqlparser::ast::Query;

use super::Dialect;

/// The queries that are being visited, each with the names that its `WITH` has given so far.
#[derive(Debug)]
pub(super) struct Scopes {
    dialect: Dialect,
    open: Vec<QueryScope>,
}

#[derive(Debug)]
struct QueryScope {
    names: Vec<String>,
    /// Queries of the `WITH` that are yet to be visited, in their order, with their names.
    pending: Vec<(*const Query, String)>,
}

impl Scopes {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, open: Vec::new() }
    }

    pub(super) fn begin(&mut self, query: &Query) {
        let with = query.with.as_ref();
        let all = with.into_iter().flat_map(|with| &with.cte_tables);
        let all = all.map(|cte| (ptr::from_ref(&*cte.query), self.dialect.name(&cte.alias.name)));
        let scope = match with.is_some_and(|with| with.recursive) {
            true => QueryScope { names: all.map(|(_, name)| name).collect(), pending: Vec::new() },
            false => QueryScope { names: Vec::new(), pending: all.collect() },
        };
        self.open.push(scope);
    }

    pub(super) fn end(&mut self, query: &Query) {
        self.open.pop();
        // The body is visited behind the queries of its `WITH`.
        let Some(outer) = self.open.last_mut() else { return };
        let found = outer.pending.iter().position(|(given, _)| ptr::eq(*given, query));
        if let Some(found) = found {
            let (_, name) = outer.pending.remove(found);
            outer.names.push(name);
        }
    }

    /// Whether the name is one of a `WITH` here.
    pub(super) fn has(&self, name: &str) -> bool {
        self.open.iter().flat_map(|scope| &scope.names).any(|given| given == name)
    }
}
