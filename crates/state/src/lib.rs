//! State of the gateway: stores, sealing, directory, compiled policy, audit log and metrics.

pub mod crypto;
pub mod directory;
pub mod observe;
pub mod rulebook;
pub mod store;
