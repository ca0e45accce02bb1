//! Scrubbing of responses: when an upstream repeats the credential that it was sent, the agent must not see it.
//! Pure; `proxy` applies it to responses of requests with a credential.
//!
//! [`Needles`] are the texts to search for, made once per credential. [`Masker`] masks uncompressed bodies at
//! equal length, [`Inspector`] checks compressed ones, [`fields`] masks header fields, [`request_fields`] restricts
//! requests to codings and ranges that can be checked.
//!
//! Nothing that the agent sees depends on a part of a needle: only whole needles are masked, what is held back of a stream
//! is chosen by kinds of bytes (`tail.rs`), and a range is asked for with so much around it that no needle is cut.
//!
//! Not covered: secrets shorter than [`SECRET_BYTES_MIN`]; fields that a provider declares not to be secret,
//! such as a user name; encodings other than those of `forms.rs`, and two of them nested (UTF-16 is one); a
//! secret in pieces, or encrypted; a key of several lines in a plain body of unknown length, if
//! a piece of the body ends within the key; up to four bits of a base64 character that a secret shares with its
//! neighbours; the messages of a WebSocket (its handshake is covered).

mod decoder;
pub mod fields;
mod flush_points;
mod forms;
mod inspector;
mod masker;
mod needles;
pub mod range;
pub mod request_fields;
mod tail;
#[cfg(test)]
mod tests;

pub use flush_points::FlushPoints;
pub use forms::{SECRET_BYTES_MIN, is_common_word};
pub use inspector::{InspectError, Inspector};
pub use masker::Masker;
pub use needles::Needles;

/// Maximum memory to check one coded response with one coding, in bytes: a window of 16 MiB, symbol tables, and
/// held bytes.
pub const DECODER_BYTES_MAX: usize = 24 * 1024 * 1024;

/// The byte that replaces each byte of a secret: valid in JSON, HTML, URLs and header fields.
const MASK: u8 = b'*';
