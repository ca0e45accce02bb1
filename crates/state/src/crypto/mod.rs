//! Sealing records and making tokens: envelopes, master keys and where they come from.
//!
//! Knows no storage; `directory/` and `vault/` decide what is sealed under which place.

pub mod command;
pub mod envelope;
pub mod keyring;
pub mod own;
pub mod private;
pub mod source;
pub mod token;
