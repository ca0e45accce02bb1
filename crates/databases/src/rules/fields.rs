//! [`Fields`]: fields of values in a statement. PostgreSQL reads `(x).f` as `f(x)` if `x` has no field `f`, and so `x.f` where
//! a function in `FROM` gives `x`. Where `x` is a row of a table or of a query, `x.f` is taken for a column here: a function of
//! such rows is made to be read as one.

use std::collections::{HashMap, HashSet};

use sqlparser::ast::{AccessExpr, Expr, Ident, ObjectNamePart, TableFactor};

use super::dialect::Dialect;
use super::statement_rules::{Reason, StatementRules};

/// What a statement has so far of what may be a call without parentheses.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// The functions in `FROM` by their names there, and the columns that the statement gives to all of the same name.
    sources: HashMap<String, HashSet<String>>,
    named: Vec<NamedField>,
}

/// `of.name`
#[derive(Debug)]
struct NamedField {
    of: String,
    name: String,
}

impl Fields {
    /// Adds a part of `FROM`, if it is a function.
    pub(super) fn add_source(&mut self, factor: &TableFactor, dialect: Dialect) {
        let (name, alias) = match factor {
            TableFactor::Table { name, alias, args: Some(_), .. }
            | TableFactor::Function { name, alias, .. } => {
                (name.0.last().and_then(ObjectNamePart::as_ident), alias.as_ref())
            }
            TableFactor::UNNEST { alias, .. } => (None, alias.as_ref()),
            _ => return,
        };
        let name = alias.map(|alias| &alias.name).or(name);
        let name = name.map_or_else(|| "unnest".to_owned(), |name| dialect.name(name));
        let columns = alias.into_iter().flat_map(|alias| &alias.columns);
        let mut columns: HashSet<_> = columns.map(|column| dialect.name(&column.name)).collect();
        if columns.is_empty() {
            // A single column has the name of its function.
            columns.insert(name.clone());
        }
        let known = self.sources.entry(name);
        known.and_modify(|known| known.retain(|it| columns.contains(it))).or_insert(columns);
    }

    /// Checks the fields in an expression, as far as they are known to be some.
    pub(super) fn add(&mut self, expr: &Expr, rules: &StatementRules) -> Result<(), Reason> {
        let dialect = rules.dialect;
        let (names, rest): (Vec<&Ident>, &[AccessExpr]) = match expr {
            _ if dialect == Dialect::Mysql => return Ok(()),
            Expr::CompoundIdentifier(names) => (names.iter().collect(), &[]),
            Expr::CompoundFieldAccess { root, access_chain } => match &**root {
                // `x.y[1].f` begins with a column.
                Expr::Identifier(first) => {
                    let names = access_chain.iter().map_while(field);
                    let names: Vec<_> = std::iter::once(first).chain(names).collect();
                    let rest = &access_chain[names.len() - 1..];
                    (names, rest)
                }
                _ => (Vec::new(), &access_chain[..]),
            },
            _ => return Ok(()),
        };
        // Behind a schema, it is a table.
        if let [of, name] = names[..] {
            self.named.push(NamedField { of: dialect.name(of), name: dialect.name(name) });
        }
        rest.iter().filter_map(field).try_for_each(|name| rules.field(&dialect.name(name)))
    }

    /// Checks the others, when all of `FROM` is known.
    pub(super) fn end(&self, rules: &StatementRules) -> Result<(), Reason> {
        let is_column = |field: &NamedField| {
            self.sources.get(&field.of).is_none_or(|columns| columns.contains(&field.name))
        };
        let mut called = self.named.iter().filter(|field| !is_column(field));
        called.try_for_each(|field| rules.field(&field.name))
    }
}

fn field(access: &AccessExpr) -> Option<&Ident> {
    match access {
        AccessExpr::Dot(Expr::Identifier(name)) => Some(name),
        _ => None,
    }
}
