//! Checks which changes of an own provider are safe while connections use it. A user who may change a provider may not
//! read the secrets of its connections, so no change may send them elsewhere: hosts, paths, methods, places, endpoints
//! and all other keys that are not listed here are fixed.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Keys that decide neither where a secret is sent nor in which form: words for people, shapes of keys, names of
/// variables, named actions (on the provider's own hosts), and scopes. Of lists, `[]` is each item. Prefixes and suffixes of
/// keys are fixed: a placeholder shows which of them the key has, so that other ones would read it letter by letter.
const FREE: &[&str] = &[
    "name",
    "category",
    "key_url",
    "docs_url",
    "quirks",
    "sources",
    "confidence",
    "checked",
    "test_source",
    "scope_words",
    "actions",
    "indirect",
    "variables[].label",
    "variables[].help",
    "variables[].example",
    "auth[].label",
    "auth[].note",
    "auth[].key.length",
    "auth[].key.pattern",
    "auth[].key.placeholder",
    "auth[].key.letters",
    "auth[].env",
    "auth[].scopes",
    "auth[].app_url",
    "auth[].app_steps",
    "auth[].app_source",
    "auth[].access_page",
    "auth[].fields[].label",
    "auth[].fields[].help",
    "auth[].fields[].env",
    "auth[].fields[].length",
    "auth[].fields[].pattern",
];

/// Test requests. They carry the secret, and show an account of the answer.
const TESTS: &[&str] = &["test", "auth[].test"];

/// Lists and maps with a key that may change.
const PARTS: &[&str] =
    &["", "variables", "variables[]", "auth", "auth[]", KEY, "auth[].fields", "auth[].fields[]"];

const KEY: &str = "auth[].key";

/// Which changes of the test request are safe with the existing secrets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TestChange {
    /// Any that only reads.
    Reading,
    /// No other request: the test would use the secret of a private connection, whose answers other users must not see.
    Same,
}

/// The path of the first changed key that is fixed while connections use the provider, such as
/// `auth[0].placement.header`; `None` if all changes are safe. Definitions are compared as written: another notation of
/// the same provider counts as a change.
pub fn first_fixed_change(
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    tests: TestChange,
) -> Option<String> {
    let mut place = DefinitionPath { path: String::new(), kind: String::new(), tests };
    place.of_maps(Some(before), Some(after))
}

/// Where two definitions are compared.
struct DefinitionPath {
    /// `auth[0].key`
    path: String,
    /// `auth[].key`
    kind: String,
    tests: TestChange,
}

impl DefinitionPath {
    fn of(&mut self, before: Option<&Value>, after: Option<&Value>) -> Option<String> {
        let [before, after] = [before, after].map(|value| value.filter(|value| !value.is_null()));
        if before == after || FREE.contains(&&*self.kind) {
            return None;
        }
        if TESTS.contains(&&*self.kind) {
            return self.of_tests(before, after);
        }
        if !PARTS.contains(&&*self.kind) {
            return Some(self.path.clone());
        }
        match (before, after) {
            (Some(Value::Array(before)), Some(Value::Array(after))) => self.of_lists(before, after),
            // A method may get the shape of its key later.
            (before, after) if self.kind == KEY => {
                self.of_maps(before.and_then(Value::as_object), after.and_then(Value::as_object))
            }
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                self.of_maps(Some(before), Some(after))
            }
            _ => Some(self.path.clone()),
        }
    }

    fn of_lists(&mut self, before: &[Value], after: &[Value]) -> Option<String> {
        (0..before.len().max(after.len())).find_map(|index| {
            let (before, after) = (before.get(index), after.get(index));
            self.below(&format!("[{index}]"), "[]", before, after)
        })
    }

    fn of_maps(
        &mut self,
        before: Option<&Map<String, Value>>,
        after: Option<&Map<String, Value>>,
    ) -> Option<String> {
        let keys: BTreeSet<&String> =
            before.into_iter().chain(after).flat_map(|map| map.keys()).collect();
        keys.into_iter().find_map(|key| {
            let [before, after] = [before, after].map(|map| map.and_then(|map| map.get(key)));
            let step = if self.path.is_empty() { key.clone() } else { format!(".{key}") };
            self.below(&step, &step, before, after)
        })
    }

    fn below(
        &mut self,
        step: &str,
        kind: &str,
        before: Option<&Value>,
        after: Option<&Value>,
    ) -> Option<String> {
        let lengths = (self.path.len(), self.kind.len());
        self.path.push_str(step);
        self.kind.push_str(kind);
        let found = self.of(before, after);
        self.path.truncate(lengths.0);
        self.kind.truncate(lengths.1);
        found
    }

    /// A test may be removed, and judge its answer otherwise. Another one only reads.
    fn of_tests(&self, before: Option<&Value>, after: Option<&Value>) -> Option<String> {
        let none = Map::new();
        let after = after?;
        let (before, Some(after)) =
            (before.and_then(Value::as_object).unwrap_or(&none), after.as_object())
        else {
            return Some(self.path.clone());
        };
        let reads =
            matches!(after.get("method").map(Value::as_str), None | Some(Some("GET" | "HEAD")));
        let may_be_other = reads && self.tests == TestChange::Reading;
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let differs = |key: &&String| before.get(*key) != after.get(*key);
        let stays = |key: &&String| match key.as_str() {
            "account" | "expect_status" | "expect_json" | "rejects" | "note" => false,
            "url" | "oauth_url" | "other_urls" | "method" => !may_be_other,
            "headers" | "json" | "form" | "body" => !may_be_other || after.contains_key(*key),
            _ => true,
        };
        let found = keys.into_iter().filter(differs).find(stays);
        found.map(|key| format!("{}.{key}", self.path))
    }
}

#[cfg(test)]
mod tests;
