//! Writes a credential into a `multipart/form-data` body (RFC 7578), whole or while it arrives: the part of its name is
//! replaced, or one is added. The other parts stay as the agent sent them, in their order. A body that servers could
//! divide differently is refused. [`BodyError`] says why a credential cannot be written into a request body.

pub mod rewriter;
#[cfg(test)]
mod tests;

/// RFC 2046 §5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;

const NO_BOUNDARY: BodyError = BodyError::Malformed("multipart/form-data of no single boundary");

/// What divides the parts, with the two hyphens before it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delimiter(Box<str>);

impl Delimiter {
    /// The delimiter that the parameters of a content type name.
    ///
    /// # Errors
    /// When they name none, several, or one with unusual characters.
    pub(super) fn of(content_type: &str) -> Result<Self, BodyError> {
        let named =
            |text: &'_ str| text.get(..8).is_some_and(|it| it.eq_ignore_ascii_case("boundary"));
        let mut found = content_type.split(';').skip(1).map(str::trim).filter(|it| named(it));
        let (Some(one), None) = (found.next(), found.next()) else { return Err(NO_BOUNDARY) };
        let value = one[8..].strip_prefix('=').ok_or(NO_BOUNDARY)?;
        let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let value = quoted.unwrap_or(value);
        // RFC 2046 `bchars`, without those that lists and quotes end with.
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"'()+_-./:=?".contains(&b);
        match (1..=BOUNDARY_BYTES_MAX).contains(&value.len()) && value.bytes().all(is_plain) {
            true => Ok(Self(format!("--{value}").into())),
            false => Err(NO_BOUNDARY),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

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
