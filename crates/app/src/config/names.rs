//! Checks names in the configuration, where the line is known. `directory/` checks them again.

use std::collections::HashSet;

use super::reading::ConfigReading;
use keyward_base::agent::is_unreserved;
use keyward_base::id::{OrgId, is_like_an_id};
use keyward_rules::provider::document::key_of;

const LEN_MAX: usize = 64;

/// Of tokens: agents are found by name or token, so no name may look like one.
const TOKEN_PREFIXES: [&str; 2] = ["kwa_", "kwp_"];

/// Checks the name of an agent that a listener is for. `path`: of its key, which may be missing.
pub(super) fn agent(name: &str, path: &str, reading: &mut ConfigReading<'_>) {
    if name.is_empty() {
        reading.problems.add(path, "the name is missing", "name an agent");
    } else if !is_unreserved(name) || name.len() > LEN_MAX || name.bytes().all(|b| b == b'.') {
        let remedy = "write 1 to 64 letters, digits or `-._~`, and not only dots";
        reading.problems.add(path, "this is not the name of an agent", remedy);
    } else if is_like_an_id(name) || is_like_a_token(name) {
        let message = "the name looks like an id or a token";
        reading.problems.add(path, message, "choose another beginning");
    }
}

/// Checks that a name does not look like an id or a token. The resource checks its other rules.
pub(super) fn check_not_token(name: &str, path: &str, reading: &mut ConfigReading<'_>) {
    if is_like_a_token(name) {
        let message = "the name looks like an id or a token";
        reading.problems.add(&key_of(path, "name"), message, "choose another beginning");
    }
}

fn is_like_a_token(name: &str) -> bool {
    TOKEN_PREFIXES.iter().any(|it| name.starts_with(it))
}

/// The names of a section so far.
#[derive(Default)]
pub(super) struct EarlierNames(HashSet<(OrgId, String)>);

impl EarlierNames {
    /// Checks that no earlier item of the organisation has the name, and adds it.
    pub(super) fn add(
        &mut self,
        org: &OrgId,
        name: &str,
        path: &str,
        reading: &mut ConfigReading<'_>,
    ) {
        if !name.is_empty() && !self.0.insert((org.clone(), name.to_owned())) {
            let message = format!("the name `{name}` is used twice");
            reading.problems.add(&key_of(path, "name"), message, "rename or remove one");
        }
    }
}
