//! GraphQL requests: which operations a body asks for, and which of them belong to an action. Pure.
//!
//! ```text
//! request   the body of a request: JSON with one operation or a list of them
//! document  the kinds and root fields of the operations of a document
//! lexer     tokens of a document
//! ```
//!
//! This file has the operations of an action, by kind and root field ([`OperationScope`]).
//!
//! A request that services may read in two ways, or that this module does not know, is refused. No parser crate is used,
//! because a crate accepts all that its own grammar allows, and a service may have another grammar.

mod document;
mod lexer;
pub mod request;

use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationKind {
    /// Reads.
    Query,
    /// Writes.
    Mutation,
    /// Reads a stream of events.
    Subscription,
}

/// One field at which an operation begins.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RootField {
    pub kind: OperationKind,
    /// Its name in the schema, never its alias.
    pub name: Box<str>,
}

/// The root fields of all operations of a request; at least one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Operations(BTreeSet<RootField>);

/// The operations of a request, as far as its body was read.
#[derive(Clone, Copy, Debug, Default)]
pub enum RequestedOperations<'a> {
    /// Its body was not read.
    #[default]
    Unread,
    /// Its body was read and cannot be judged.
    Unclear(NotUnderstood),
    /// Its body asks for these.
    Known(&'a Operations),
}

/// Why the operations of a request are not known. The text follows `the body`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotUnderstood {
    /// The request is no POST.
    #[error("is not that of a POST: operations of other requests may be in the URL or in a stream")]
    Method,
    /// It has no `Content-Type`, several, or another one than `application/json` in UTF-8.
    #[error("is not `application/json`")]
    ContentType,
    /// It is compressed.
    #[error("has a Content-Encoding")]
    Coded,
    /// The URL has a query, in which services look for operations too.
    #[error("is not all of the request: the URL has a query, which may hold operations")]
    UrlQuery,
    /// It is no JSON object with a text in `query`, and no list of them.
    #[error("is no JSON object with `query`, or a list of such objects")]
    Json,
    /// A member is there twice.
    #[error("has a member twice")]
    Duplicate,
    /// A member that may change what is done.
    #[error("has another member than `query`, `operationName`, `variables` and `extensions`")]
    Member,
    /// An extension that may change what is done, such as the hash of a persisted query.
    #[error("has an extension, such as a persisted query, that may mean another operation")]
    Extension,
    /// The document is too long, too deep, or has too many tokens, operations or fields.
    #[error("is longer or deeper than the limits of GraphQL documents")]
    TooLarge,
    /// The document is not valid, or services may read it in two ways.
    #[error("is no GraphQL document that all services read in the same way: {0}")]
    Document(&'static str),
}

impl Operations {
    /// `None` without a field: then nothing would be judged.
    fn new(fields: BTreeSet<RootField>) -> Option<Self> {
        (!fields.is_empty()).then_some(Self(fields))
    }

    pub fn fields(&self) -> impl Iterator<Item = &RootField> {
        self.0.iter()
    }
}

impl OperationKind {
    /// The keyword of a document.
    fn of(word: &str) -> Option<Self> {
        match word {
            "query" => Some(Self::Query),
            "mutation" => Some(Self::Mutation),
            "subscription" => Some(Self::Subscription),
            _ => None,
        }
    }
}

/// Operations that belong to an action.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OperationScope {
    /// The kinds; at least one.
    pub kinds: Vec<OperationKind>,
    /// The root fields; empty means all.
    pub fields: Vec<FieldPattern>,
    /// Root fields that do not belong to it.
    pub without_fields: Vec<FieldPattern>,
}

/// The name of a root field, or its beginning or end: `issue*`, `*Delete`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldPattern(Box<str>);

impl OperationScope {
    /// Whether an operation that begins at this field belongs to it.
    pub fn covers(&self, field: &RootField) -> bool {
        self.is_open_to(field) && (self.fields.is_empty() || is_in(&self.fields, field))
    }

    /// Whether an operation that begins at this field needs no more than what belongs to it: `__typename` reads only the
    /// name of the root type.
    pub fn suffices(&self, field: &RootField) -> bool {
        self.covers(field) || &*field.name == "__typename" && self.is_open_to(field)
    }

    fn is_open_to(&self, field: &RootField) -> bool {
        self.kinds.contains(&field.kind) && !is_in(&self.without_fields, field)
    }
}

fn is_in(patterns: &[FieldPattern], field: &RootField) -> bool {
    patterns.iter().any(|pattern| pattern.matches(&field.name))
}

impl FieldPattern {
    /// Parses a name, in which one `*` may stand at the beginning or at the end. `None`: it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.strip_prefix('*').or_else(|| text.strip_suffix('*')).unwrap_or(text);
        let is_name = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && (text.starts_with('*') || !name.starts_with(|c: char| c.is_ascii_digit()));
        is_name.then(|| Self(text.into()))
    }

    fn matches(&self, name: &str) -> bool {
        match (self.0.strip_prefix('*'), self.0.strip_suffix('*')) {
            (Some(end), _) => name.ends_with(end),
            (None, Some(beginning)) => name.starts_with(beginning),
            (None, None) => name == &*self.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<FieldPattern> {
        texts.iter().map(|text| FieldPattern::parse(text).expect(text)).collect()
    }

    #[test]
    fn invalid_field_patterns_are_refused() {
        for text in ["", "*", "**", "*a*", "a*b", "a b", "1a", "a-b", "ä", "a.b"] {
            assert_eq!(FieldPattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn fields_of_another_kind_or_name_are_outside_the_scope() {
        let scope = OperationScope {
            kinds: vec![OperationKind::Mutation],
            fields: patterns(&["issueCreate", "comment*", "*Archive"]),
            without_fields: patterns(&["commentDelete"]),
        };
        for (kind, name, expected) in [
            (OperationKind::Mutation, "issueCreate", true),
            (OperationKind::Mutation, "commentUpdate", true),
            (OperationKind::Mutation, "teamArchive", true),
            (OperationKind::Mutation, "__typename", false),
            (OperationKind::Mutation, "issueCreates", false),
            (OperationKind::Mutation, "IssueCreate", false),
            (OperationKind::Mutation, "acommentUpdate", false),
            (OperationKind::Mutation, "commentDelete", false),
            (OperationKind::Mutation, "__schema", false),
            (OperationKind::Query, "issueCreate", false),
            (OperationKind::Query, "__typename", false),
        ] {
            let found = scope.covers(&RootField { kind, name: name.into() });
            assert_eq!(found, expected, "{kind:?} {name}");
        }
    }

    #[test]
    fn the_name_of_the_root_type_needs_only_the_kind() {
        let scope = OperationScope {
            kinds: vec![OperationKind::Mutation],
            fields: patterns(&["issueCreate"]),
            without_fields: Vec::new(),
        };
        let typename = RootField { kind: OperationKind::Mutation, name: "__typename".into() };
        let without = OperationScope { without_fields: patterns(&["__*"]), ..scope.clone() };
        assert!(!without.suffices(&typename));
        for (kind, name, expected) in [
            (OperationKind::Mutation, "__typename", true),
            (OperationKind::Mutation, "issueCreate", true),
            (OperationKind::Mutation, "__schema", false),
            (OperationKind::Mutation, "issueDelete", false),
            (OperationKind::Query, "__typename", false),
        ] {
            let found = scope.suffices(&RootField { kind, name: name.into() });
            assert_eq!(found, expected, "{kind:?} {name}");
        }
    }
}
