//! GraphQL requests: which operations a body asks for, and which of them belong to an action. Pure.
//!
//! ```text
//! request   the body of a request: JSON with one operation or a list of them
//! document  the kinds and root fields of the operations of a document
//! lexer     tokens of a document
//! scope     the operations of an action
//! ```
//!
//! A request that services may read in two ways, or that this module does not know, is refused. No parser crate is used,
//! because a crate accepts all that its own grammar allows, and a service may have another grammar.

mod document;
mod lexer;
pub mod request;
pub mod scope;

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
