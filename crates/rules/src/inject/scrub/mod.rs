//! Secrets out of answers: an upstream that repeats the credential it was sent must not tell it to the
//! agent. Pure; `proxy/` feeds it the answers of requests that carried a credential, and no others.
//!
//! [`Needles`] are what is looked for, made once per credential. [`Masker`] replaces them in plain
//! bodies at equal length, [`Inspector`] looks into coded ones, [`fields`] does header fields, [`ask`]
//! makes requests ask for what can be looked into.
//!
//! Not covered: secrets shorter than [`SECRET_BYTES_MIN`]; fields that a provider declares to be no
//! secrets, such as a user name; encodings other than those of `forms.rs`, and two of them on top of
//! each other (UTF-16 is one); a secret in pieces, in the name of a field, or encrypted; of a base64 character that a
//! secret shares with its neighbours up to four bits; the messages of a WebSocket, whose handshake is
//! covered.

pub mod ask;
mod decoder;
pub mod fields;
mod forms;
mod inspector;
mod masker;
mod needles;
#[cfg(test)]
mod tests;
mod watch;

pub use forms::SECRET_BYTES_MIN;
pub use inspector::{Fault, Inspector};
pub use masker::Masker;
pub use needles::Needles;

/// What looking into one coded answer takes at most, in bytes, one coding deep: a window of 16 MiB, trees
/// of symbols, and the bytes that are held back.
pub const DECODER_BYTES_MAX: usize = 24 * 1024 * 1024;

/// What stands where a secret stood: harmless in JSON, HTML, URLs and header fields.
const MASK: u8 = b'*';
