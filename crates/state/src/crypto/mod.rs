//! Cryptography: envelopes, master keys and their sources, tokens. It does not know storage: `directory` and
//! `vault` decide what is sealed and under which place.

pub mod command;
pub mod envelope;
pub mod keyring;
pub mod own;
pub mod private;
pub mod source;
pub mod token;
