//! [`Scopes`]: names that `WITH` gives to queries, where they hide tables. A query of a `WITH` sees those before it, and
//! with `RECURSIVE` all of them; the body sees all.

use std::ptr;

use sqlparser::ast::Query;

use super::kinds::folded;

/// The queries that are being visited, each with the names that its `WITH` has given so far.
#[derive(Debug, Default)]
pub(super) struct Scopes(Vec<Scope>);

#[derive(Debug)]
struct Scope {
    names: Vec<String>,
    /// Queries of the `WITH` that are yet to be visited, in their order, with their names.
    pending: Vec<(*const Query, String)>,
}

impl Scopes {
    pub(super) fn begin(&mut self, query: &Query) {
        let with = query.with.as_ref();
        let all = with.into_iter().flat_map(|with| &with.cte_tables);
        let all = all.map(|cte| (ptr::from_ref(&*cte.query), folded(&cte.alias.name)));
        let scope = match with.is_some_and(|with| with.recursive) {
            true => Scope { names: all.map(|(_, name)| name).collect(), pending: Vec::new() },
            false => Scope { names: Vec::new(), pending: all.collect() },
        };
        self.0.push(scope);
    }

    pub(super) fn end(&mut self, query: &Query) {
        self.0.pop();
        // The body is visited behind the queries of its `WITH`.
        let Some(outer) = self.0.last_mut() else { return };
        let found = outer.pending.iter().position(|(given, _)| ptr::eq(*given, query));
        if let Some(found) = found {
            let (_, name) = outer.pending.remove(found);
            outer.names.push(name);
        }
    }

    /// Whether the name is one of a `WITH` here.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().flat_map(|scope| &scope.names).any(|given| given == name)
    }
}
