//! Tests of policy: claims about small hand-written worlds, and generated worlds on which a second, naive
//! interpreter must agree.

mod actions;
mod allow;
mod branches;
mod generated;
mod graphql;
mod naive;
mod named_resources;
mod overlaps;
mod refused_uses;
mod routes;
mod rules;
pub(super) mod samples;
mod selection;
mod slots;
mod taken;
mod world;
