//! Limits on agents, connections and memory: budgets, rates and counts. This room counts; its callers refuse.

pub mod agent_streams;
pub mod auth_failures;
pub mod body_buffer;
pub mod budget;
pub mod meter;
pub mod rate;
pub mod secret_rejections;
pub mod shared;
