//! The words everything else is written in: secrets, ids, hosts, patterns, time, limits.
//!
//! Values without I/O, and threads for calls that block. May import nothing else of the crate.

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
