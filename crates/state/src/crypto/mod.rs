//! Cryptography: envelopes, master keys and their sources, tokens. It does not know storage: `directory` and `vault`
//! decide which values are sealed, and for which place.

pub mod challenge;
pub mod command;
pub mod envelope;
pub mod key_file;
pub mod keyring;
pub mod password;
pub mod private_file;
pub mod source;
pub mod token;
pub mod totp;
pub mod webauthn;
