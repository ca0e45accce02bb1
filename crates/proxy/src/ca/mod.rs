//! The local certificate authority and its leaves. Keyward uses them to terminate the TLS of agents. Only
//! authenticated agents get a leaf, and only for allowed targets: the callers check that.

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
