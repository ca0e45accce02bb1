//! What Keyward tells about itself: the audit log, metrics, tracing.
//!
//! None of it may hold a secret: events are built from ids, names and paths without a query.

pub mod audit;
pub mod chain;
pub mod event;
pub mod log;
pub mod metrics;
