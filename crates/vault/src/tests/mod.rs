//! Tests of the crate as a whole, and what tests of its modules share.

mod app_sources;
mod doubts;
pub(crate) mod faulty_store;
pub(crate) mod golden;
mod rejected;
mod rotation;
pub(crate) mod scripted_server;
pub(crate) mod simulation;
