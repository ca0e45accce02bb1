//! The local certificate authority and the leaves it mints: what Keyward answers agents with when
//! it looks into their TLS.
//!
//! Who gets a leaf is decided before: only authenticated agents, for allowed targets.

pub mod authority;
pub mod cache;
mod error;
mod files;
pub mod leaf;
mod pair;
mod signer;
#[cfg(test)]
mod tests;

pub use error::CaError;
