//! [`Needs`]: visits a parsed statement, and checks each kind, table and function in it against the rules.
//!
//! [`Scopes`]: names that `WITH` gives to queries, where they hide tables. A query of a `WITH` sees those before it; the body
//! sees all. With `RECURSIVE`, a query sees itself too, and in PostgreSQL all others. In MySQL, a query of a `WITH` sees no name
//! of a `WITH` around that one: MariaDB reads a table there.

use std::ops::ControlFlow;
use std::ptr;

use sqlparser::ast::{
    self, CopySource, CopyTarget, Expr, FromTable, ObjectName, ObjectNamePart, Query, Select,
    SetExpr, ShowStatementIn, ShowStatementOptions, Statement, TableFactor, TableObject,
    TableWithJoins, Visitor,
};

use super::dialect::Dialect;
use super::fields::Fields;
use super::statement_rules::{Reason, StatementRules};
use keyward_base::settings::StatementKind;

const UNKNOWN: &str =
    "only statements on data are permitted, and those of transactions, settings and cursors";

/// What a statement needs of the rules.
pub(super) struct Needs<'r> {
    rules: &'r StatementRules,
    /// Names of `WITH` that hide tables.
    scopes: Scopes,
    /// The relation that is visited next is a function's name.
    is_function: bool,
    fields: Fields,
}

impl<'r> Needs<'r> {
    pub(super) fn new(rules: &'r StatementRules) -> Self {
        let (scopes, fields) = (Scopes::new(rules.dialect), Fields::default());
        Self { rules, scopes, is_function: false, fields }
    }

    /// Checks what is known only when the whole statement is visited.
    pub(super) fn end(&self) -> Result<(), Reason> {
        self.fields.end(self.rules)
    }

    fn statement(&self, statement: &Statement) -> Result<(), Reason> {
        use StatementKind::{Delete, Insert, Merge, Select, Truncate, Update};
        match statement {
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => {
                self.rules.kind(Update)?;
                self.targets(std::slice::from_ref(&update.table))
            }
            Statement::Delete(delete) => {
                self.rules.kind(Delete)?;
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) =
                    &delete.from;
                self.targets(from)
            }
            Statement::Merge(merge) => {
                self.rules.kind(Merge)?;
                self.factor(&merge.table)
            }
            Statement::Truncate(_) => self.rules.kind(Truncate),
            Statement::Copy { source, to, target, .. } => {
                self.rules.kind(if *to { Select } else { Insert })?;
                self.copy(source, *to, target)
            }
            Statement::Declare { stmts } => match stmts.iter().all(|one| one.for_query.is_some()) {
                true => Ok(()),
                false => Err(UNKNOWN.into()),
            },
            // What these hold is visited.
            Statement::ExplainTable { .. } if self.rules.dialect == Dialect::Mysql => {
                self.rules.kind(Select)
            }
            Statement::ShowColumns { show_options, .. } => self.columns(show_options),
            // There the parser takes every unknown SHOW for a setting.
            Statement::ShowVariable { .. } if self.rules.dialect == Dialect::Mysql => {
                Err(UNKNOWN.into())
            }
            Statement::Query(_)
            | Statement::Explain { .. }
            | Statement::Prepare { .. }
            | Statement::Execute { immediate: false, .. }
            | Statement::Deallocate { .. }
            | Statement::Fetch { into: None, .. }
            | Statement::Close { .. }
            | Statement::StartTransaction { .. }
            | Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::Savepoint { .. }
            | Statement::ReleaseSavepoint { .. }
            | Statement::Set(_)
            | Statement::Reset(_)
            | Statement::ShowVariable { .. }
            | Statement::UNLISTEN { .. }
            | Statement::Discard { .. } => Ok(()),
            _ => Err(UNKNOWN.into()),
        }
    }

    fn insert(&self, insert: &ast::Insert) -> Result<(), Reason> {
        self.rules.kind(StatementKind::Insert)?;
        if insert.replace_into {
            // It removes the rows with the same keys.
            self.rules.kind(StatementKind::Delete)?;
        }
        match &insert.table {
            TableObject::TableName(name) => self.target(name)?,
            _ => return Err(UNKNOWN.into()),
        }
        match insert.on.is_some() {
            // It updates the rows that are there.
            true => self.rules.kind(StatementKind::Update),
            false => Ok(()),
        }
    }

    /// `SHOW COLUMNS` of a table, whose name is visited.
    fn columns(&self, options: &ShowStatementOptions) -> Result<(), Reason> {
        match &options.show_in {
            Some(ShowStatementIn { parent_type: None, parent_name: Some(_), .. }) => {
                self.rules.kind(StatementKind::Select)
            }
            _ => Err(UNKNOWN.into()),
        }
    }

    fn copy(&self, source: &CopySource, to: bool, target: &CopyTarget) -> Result<(), Reason> {
        match (to, target) {
            (_, CopyTarget::Stdin) | (true, CopyTarget::Stdout) => {}
            _ => return Err("COPY is only to STDOUT or from STDIN".into()),
        }
        match source {
            CopySource::Table { table_name, .. } => self.target(table_name),
            // It is visited.
            CopySource::Query(_) => Ok(()),
        }
    }

    fn query(&self, query: &Query) -> Result<(), Reason> {
        if !query.locks.is_empty() {
            self.rules.kind(StatementKind::Update)?;
        }
        let mut open = vec![&*query.body];
        while let Some(part) = open.pop() {
            match part {
                SetExpr::SetOperation { left, right, .. } => open.extend([&**left, &**right]),
                SetExpr::Table(_) => self.rules.kind(StatementKind::Select)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn select(&self, select: &Select) -> Result<(), Reason> {
        match select.into {
            Some(_) => Err("SELECT INTO makes a table".into()),
            None => self.rules.kind(StatementKind::Select),
        }
    }

    fn targets(&self, tables: &[TableWithJoins]) -> Result<(), Reason> {
        tables.iter().try_for_each(|table| self.factor(&table.relation))
    }

    fn factor(&self, factor: &TableFactor) -> Result<(), Reason> {
        match factor {
            TableFactor::Table { name, args: None, .. } => self.target(name),
            _ => Err("only tables are changed".into()),
        }
    }

    /// The table that a statement changes: a name of `WITH` does not hide it.
    fn target(&self, name: &ObjectName) -> Result<(), Reason> {
        let (schema, table) = self.parts(name)?;
        self.rules.table(schema.as_deref(), &table)
    }

    fn relation(&self, name: &ObjectName) -> Result<(), Reason> {
        if self.rules.dialect.is_no_table(name) {
            return Ok(());
        }
        if self.rules.dialect.is_bare_function(name) {
            return Err("a function without parentheses is in its FROM".into());
        }
        let (schema, table) = self.parts(name)?;
        match schema {
            None if self.scopes.has(&table) => Ok(()),
            schema => self.rules.table(schema.as_deref(), &table),
        }
    }

    /// A name before parentheses in `FROM`. MySQL has no function there but `JSON_TABLE`, which the parser knows.
    fn function_in_from(&self, name: &ObjectName) -> Result<(), Reason> {
        match self.rules.dialect {
            // `ONLY (name)`
            Dialect::Postgres if name.0.len() == 1 && Dialect::Postgres.has_only(name) => {
                self.without_only(name)
            }
            Dialect::Postgres => self.function(name),
            Dialect::Mysql if self.rules.names_tables() => {
                Err("a function is in its FROM, where only tables are known".into())
            }
            Dialect::Mysql => Ok(()),
        }
    }

    /// The name of a function that is called.
    fn function(&self, name: &ObjectName) -> Result<(), Reason> {
        let (schema, function) = self.parts(name)?;
        self.rules.function(schema.as_deref(), &function)
    }

    fn factor_of_from(&mut self, factor: &TableFactor) -> Result<(), Reason> {
        known(factor)?;
        self.fields.add_source(factor, self.rules.dialect);
        match factor {
            TableFactor::Function { name, .. } => self.function(name),
            _ => Ok(()),
        }
    }

    fn expression(&mut self, expr: &Expr) -> Result<(), Reason> {
        match expr {
            Expr::Function(function) => self.function(&function.name),
            _ => self.fields.add(expr, self.rules),
        }
    }

    /// Checks that a name in `FROM` is not `ONLY` and the name of a table.
    fn without_only(&self, name: &ObjectName) -> Result<(), Reason> {
        match self.rules.names_tables() && self.rules.dialect.has_only(name) {
            true => Err("ONLY is not permitted before the name of a table".into()),
            false => Ok(()),
        }
    }

    /// Schema and table, as the server compares them.
    fn parts(&self, name: &ObjectName) -> Result<(Option<String>, String), Reason> {
        let dialect = self.rules.dialect;
        self.without_only(name)?;
        let part = |part: &ObjectNamePart| part.as_ident().map(|ident| dialect.name(ident));
        let parts: Option<Vec<String>> = name.0.iter().map(part).collect();
        match parts.unwrap_or_default().as_slice() {
            [table] => Ok((None, table.clone())),
            [schema, table] => Ok((Some(schema.clone()), table.clone())),
            _ => Err("a name has more than two parts".into()),
        }
    }
}

impl Visitor for Needs<'_> {
    type Break = Reason;

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Reason> {
        flow(self.statement(statement))
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Reason> {
        self.scopes.begin(query);
        flow(self.query(query))
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<Reason> {
        self.scopes.end(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Reason> {
        flow(self.select(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Reason> {
        self.is_function = matches!(factor, TableFactor::Table { args: Some(_), .. });
        flow(self.factor_of_from(factor))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Reason> {
        flow(self.expression(expr))
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<Reason> {
        match std::mem::take(&mut self.is_function) {
            true => flow(self.function_in_from(name)),
            false => flow(self.relation(name)),
        }
    }
}

/// Checks that a part of `FROM` is one that servers of these dialects have. The parser knows those of others too, and would
/// read a table of these servers as one of them.
fn known(factor: &TableFactor) -> Result<(), Reason> {
    match factor {
        TableFactor::Table { .. }
        | TableFactor::Derived { .. }
        | TableFactor::Function { .. }
        | TableFactor::UNNEST { .. }
        | TableFactor::JsonTable { .. }
        | TableFactor::XmlTable { .. }
        | TableFactor::NestedJoin { .. } => Ok(()),
        _ => Err("a part of its FROM is not known".into()),
    }
}

fn flow(result: Result<(), Reason>) -> ControlFlow<Reason> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(reason) => ControlFlow::Break(reason),
    }
}

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
