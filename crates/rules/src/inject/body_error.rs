//! [`BodyError`]: why a credential cannot be written into a request body.

/// Why a body cannot be written into. The message names the path and never quotes values.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// The request has no body.
    #[error("this connection's credential goes into the body, and the request has none")]
    None,
    /// The body is of another kind.
    #[error("this connection's credential goes into a JSON or form body, and this one is {0}")]
    Kind(Box<str>),
    /// The body has a content coding.
    #[error("this connection's credential goes into the body, which has a Content-Encoding")]
    Coded,
    /// The body does not match its content type.
    #[error("this connection's credential goes into the body, which is {0}")]
    Malformed(&'static str),
    /// The value at a step of the path is not an object, or occurs twice.
    #[error("this connection's credential goes into the body, where `{path}` is {what}")]
    PathStep {
        /// The path up to that step.
        path: Box<str>,
        /// What is wrong there.
        what: &'static str,
    },
    /// A form with files that is too long to be held has the field again.
    #[error("this connection's credential goes into the body, which has the field `{0}` twice")]
    Repeated(Box<str>),
}
