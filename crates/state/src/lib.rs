//! What exists and what happened: directory, compiled policy, audit and metrics, stores.

pub mod crypto;
pub mod directory;
pub mod observe;
pub mod rulebook;
pub mod store;
