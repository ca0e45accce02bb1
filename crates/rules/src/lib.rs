//! What is decided about a request and what is written into it: providers, policy, injection. Pure and
//! synchronous.

pub mod inject;
pub mod policy;
pub mod provider;
