//! [`Scopes`]: names that `WITH` gives to queries, where they hide tables. A query of a `WITH` sees those before it; the body
//! sees all. With `RECURSIVE`, a query sees itself too, and in PostgreSQL all others. In MySQL, a query of a `WITH` sees no name
//! of a `WITH` around that one: MariaDB reads a table there.

use std::ptr;

use sqlparser::ast::Query;

use super::Dialect;

/// The queries that are being visited, each with the names that its `WITH` has given so far.
#[derive(Debug)]
pub(super) struct Scopes {
    dialect: Dialect,
    open: Vec<QueryScope>,
}

#[derive(Debug, Default)]
struct QueryScope {
    names: Vec<String>,
    /// Queries of the `WITH` that are yet to be visited, in their order, with their names.
    pending: Vec<(*const Query, String)>,
    /// Whether a query of the `WITH` sees its own name.
    sees_itself: bool,
    /// Whether it is a query of a `WITH` that sees no names from around that `WITH`.
    is_closed: bool,
}

impl QueryScope {
    /// The place of a query among those of the `WITH` that are yet to be visited.
    fn place_of(&self, query: &Query) -> Option<usize> {
        self.pending.iter().position(|(given, _)| ptr::eq(*given, query))
    }

    /// Adds the name of a query, if it is one of the `WITH`.
    fn declare(&mut self, query: &Query) {
        if let Some(found) = self.place_of(query) {
            let (_, name) = self.pending.remove(found);
            self.names.push(name);
        }
    }
}

impl Scopes {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, open: Vec::new() }
    }

    pub(super) fn begin(&mut self, query: &Query) {
        let with = query.with.as_ref();
        let all = with.into_iter().flat_map(|with| &with.cte_tables);
        let all = all.map(|cte| (ptr::from_ref(&*cte.query), self.dialect.name(&cte.alias.name)));
        let is_recursive = with.is_some_and(|with| with.recursive);
        let mut scope = match self.dialect {
            Dialect::Postgres if is_recursive => {
                QueryScope { names: all.map(|(_, name)| name).collect(), ..QueryScope::default() }
            }
            // MySQL never refers to a later query: there the name is a table's. MariaDB does, as PostgreSQL.
            Dialect::Postgres | Dialect::Mysql => QueryScope {
                pending: all.collect(),
                sees_itself: is_recursive,
                ..QueryScope::default()
            },
        };
        if self.dialect == Dialect::Mysql {
            let is_of_with = |outer: &QueryScope| outer.place_of(query).is_some();
            scope.is_closed = self.open.last().is_some_and(is_of_with);
        }
        if let Some(outer) = self.open.last_mut().filter(|outer| outer.sees_itself) {
            outer.declare(query);
        }
        self.open.push(scope);
    }

    pub(super) fn end(&mut self, query: &Query) {
        self.open.pop();
        // The body is visited behind the queries of its `WITH`.
        if let Some(outer) = self.open.last_mut() {
            outer.declare(query);
        }
    }

    /// Whether the name is one of a `WITH` here.
    pub(super) fn has(&self, name: &str) -> bool {
        let closed = self.open.iter().rposition(|scope| scope.is_closed);
        // The scope before it has the names of its own `WITH`.
        let from = closed.map_or(0, |at| at.saturating_sub(1));
        self.open[from..].iter().flat_map(|scope| &scope.names).any(|given| given == name)
    }
}
