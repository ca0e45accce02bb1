//! Writes a credential into a `multipart/form-data` body (RFC 7578), whole or while it arrives: the part of its name is
//! replaced, or one is added. The other parts stay as the agent sent them, in their order. A body that servers could
//! divide differently is refused.

pub mod rewriter;

mod part;
#[cfg(test)]
mod tests;

use super::body_error::BodyError;

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
