//! Basic types used by all crates: secrets, ids, hosts, patterns, time, limits. This crate does no I/O; it also
//! has a thread pool for blocking calls.

pub mod agent;
pub mod codes;
pub mod host;
pub mod id;
pub mod keys;
pub mod limits;
pub mod pattern;
pub mod rotation;
pub mod secret;
pub mod settings;
pub mod shared_map;
pub mod tally;
pub mod threads;
pub mod time;
pub mod tokens;
pub mod webhooks;
