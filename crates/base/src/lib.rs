//! Basic types used by all crates: secrets, ids, hosts, patterns, time, limits. This crate does no I/O; it also
//! has a thread pool for blocking calls.

/// The memory allocator of the program. It is here because its C build takes longest: a dependency of the lowest crate
/// is built first.
#[cfg(feature = "jemalloc")]
pub use tikv_jemallocator::Jemalloc as Allocator;

pub mod agent;
pub mod base62;
pub mod bolt;
pub mod codes;
pub mod connect;
pub mod database;
pub mod host;
pub mod id;
pub mod keys;
pub mod limits;
pub mod names;
pub mod opaque;
pub mod pattern;
pub mod rare;
pub mod secret;
pub mod settings;
pub mod shared_map;
pub mod sign_in;
pub mod system_error;
pub mod threads;
pub mod time;
pub mod tokens;
pub mod visible;
pub mod webhooks;
