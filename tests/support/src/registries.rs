//! An origin that is the registries of packages too, for sets of hosts.

use crate::lab::Plan;
use crate::origin::{NAMES, Origin, ok};

const SETS: &[&str] = &["pypi.org", "registry.npmjs.org", "github.com"];

/// An origin that is the registries too.
pub fn registries() -> Origin {
    let names: Vec<_> = NAMES.iter().chain(SETS).copied().collect();
    Origin::answering_as(&names, |_| ok("fine"))
}

/// A plan in which the names of the registries lead to the origin.
pub fn plan_of_registries(origin: &Origin) -> Plan {
    let resolve = |plan: Plan, name: &&str| plan.resolve(&format!("{name}: \"{}\"", origin.addr));
    SETS.iter().fold(Plan::api_key(), resolve)
}
