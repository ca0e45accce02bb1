//! [`PolicyQuery`]: the input of a policy decision, owned, so that the decision can be repeated while a stream is
//! open.

use http::Method;

use keyward_base::host::Target;
use keyward_base::pattern::DecodedPath;
use keyward_rules::inject::placeholder::Core;
use keyward_rules::policy::PolicyRequest;

/// An owned [`PolicyRequest`]: the input of the decision that permitted the current exchange.
#[derive(Debug)]
pub struct PolicyQuery {
    pub target: Target,
    pub method: Method,
    pub overrides: Vec<Method>,
    pub path: DecodedPath,
    pub query: Option<Box<str>>,
    pub placeholders: Vec<Core>,
    pub named: Option<String>,
}

impl PolicyQuery {
    /// The method and all methods that override it.
    pub fn methods(&self) -> impl Iterator<Item = &Method> {
        std::iter::once(&self.method).chain(&self.overrides)
    }

    /// The input of the decision.
    pub fn asked(&self) -> PolicyRequest<'_> {
        PolicyRequest {
            target: &self.target,
            method: &self.method,
            overrides: &self.overrides,
            path: &self.path,
            query: self.query.as_deref(),
            placeholders: &self.placeholders,
            named: self.named.as_deref(),
        }
    }
}
