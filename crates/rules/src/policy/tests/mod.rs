//! What policy promises: claims on small written worlds, and generated ones on which a second,
//! naive interpreter must agree.

mod generated;
mod naive;
mod routes;
mod rules;
pub(super) mod samples;
mod selection;
mod slots;
mod world;
