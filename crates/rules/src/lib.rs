//! Providers and their named actions, sets of hosts, policy and injection: which requests are allowed, and which credentials are written into
//! them. Pure and synchronous.

pub mod actions;
mod aws_host;
pub mod branches;
pub mod git_push;
pub mod graphql;
pub mod host_sets;
pub mod inject;
pub mod policy;
pub mod provider;
pub mod rate_limit;
