//! Observability: audit log, metrics, tracing, usage. None of it may contain a secret: events consist of ids,
//! names and paths without a query.

pub mod audit;
pub mod chain;
pub mod change;
pub mod change_log;
pub mod counts;
pub mod event;
pub mod filter;
pub mod follow;
pub mod heads;
pub mod log;
mod log_json;
mod log_repeats;
pub mod metrics;
pub mod notice;
mod printer;
pub mod query;
mod refusals;
pub mod run_refusals;
mod sink;
mod sync;
pub mod telemetry;
#[cfg(test)]
mod tests;
pub mod trail;
pub mod usage;
pub mod verify;
