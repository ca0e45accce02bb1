//! Checks names in the configuration, where the line is known. `directory/` checks them again.

use super::reading::ConfigReading;
use keyward_base::agent::is_unreserved;
use keyward_base::id::is_like_an_id;
use keyward_rules::provider::document::key_of;

const LEN_MAX: usize = 64;

/// Of tokens: agents are found by name or token, so no name may look like one.
const TOKEN_PREFIXES: [&str; 2] = ["kwa_", "kwp_"];

/// Checks an agent's name, which is empty when it is missing: it stands in a proxy URL.
pub(super) fn agent(name: &str, path: &str, reading: &mut ConfigReading<'_>) {
    let at = key_of(path, "name");
    if name.is_empty() {
        reading.problems.add(path, "`name` is missing", "add `name:`");
    } else if !is_unreserved(name) || name.len() > LEN_MAX || name.bytes().all(|b| b == b'.') {
        let remedy = "write 1 to 64 letters, digits or `-_.`";
        reading.problems.add(&at, "this is not a name", remedy);
    } else if is_like_an_id(name) || is_like_a_token(name) {
        reading.problems.add(
            &at,
            "the name looks like an id or a token",
            "choose another beginning",
        );
    }
}

/// Checks that a name does not look like an id or a token. The resource checks its other rules.
pub(super) fn no_token(name: &str, path: &str, reading: &mut ConfigReading<'_>) {
    if is_like_a_token(name) {
        let message = "the name looks like an id or a token";
        reading.problems.add(&key_of(path, "name"), message, "choose another beginning");
    }
}

fn is_like_a_token(name: &str) -> bool {
    TOKEN_PREFIXES.iter().any(|it| name.starts_with(it))
}

/// Checks that no earlier one has the name.
pub(super) fn unique<'a>(
    name: &str,
    mut earlier: impl Iterator<Item = &'a str>,
    path: &str,
    reading: &mut ConfigReading<'_>,
) {
    if !name.is_empty() && earlier.any(|other| other == name) {
        let message = format!("the name `{name}` is used twice");
        reading.problems.add(&key_of(path, "name"), message, "rename or remove one");
    }
}
