//! [`PolicyQuery`]: the input of a policy decision, owned: the data path repeats decisions while a stream is open, and
//! `explain` makes one from a description.

use http::Method;

use super::{NamedResource, PolicyRequest};
use crate::git_push::{PushUnclear, PushedRefs, RequestedPush};
use crate::graphql::{NotUnderstood, Operations, RequestedOperations};
use crate::inject::own_authorization::SentAuthorization;
use crate::inject::placeholder::PlaceholderCore;
use keyward_base::host::Target;
use keyward_base::pattern::DecodedPath;

/// An owned [`PolicyRequest`].
#[derive(Clone, Debug)]
pub struct PolicyQuery {
    pub target: Target,
    pub method: Method,
    pub overrides: Vec<Method>,
    pub path: DecodedPath,
    pub query: Option<Box<str>>,
    pub resources: Vec<NamedResource>,
    pub placeholders: Vec<PlaceholderCore>,
    pub named: Option<String>,
    /// The authorization of a request without placeholders.
    pub own: Option<SentAuthorization>,
    /// The GraphQL operations of the body, once it was read.
    pub operations: Option<Result<Operations, NotUnderstood>>,
    /// The references of a push, once the beginning of the body was read.
    pub push: Option<Result<PushedRefs, PushUnclear>>,
}

impl PolicyQuery {
    /// The method and all methods that override it.
    pub fn methods(&self) -> impl Iterator<Item = &Method> {
        std::iter::once(&self.method).chain(&self.overrides)
    }

    /// The input of the decision.
    pub fn policy_request(&self) -> PolicyRequest<'_> {
        PolicyRequest {
            target: &self.target,
            method: &self.method,
            overrides: &self.overrides,
            path: &self.path,
            query: self.query.as_deref(),
            resources: &self.resources,
            placeholders: &self.placeholders,
            named: self.named.as_deref(),
            own: self.own,
            operations: match &self.operations {
                None => RequestedOperations::Unread,
                Some(Ok(operations)) => RequestedOperations::Known(operations),
                Some(Err(why)) => RequestedOperations::Unclear(*why),
            },
            push: match &self.push {
                None => RequestedPush::Unread,
                Some(Ok(refs)) => RequestedPush::Known(refs),
                Some(Err(why)) => RequestedPush::Unclear(*why),
            },
        }
    }
}
