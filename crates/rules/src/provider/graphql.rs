//! Checks `graphql:` of an action: the GraphQL operations that belong to it.

use super::action_keys::{OperationsText, RequestsText};
use super::document::{Problems, item_of, key_of};
use crate::graphql::scope::{FieldPattern, OperationScope};

/// Checks `graphql:` of these requests.
pub(super) fn scope(
    text: &OperationsText,
    requests: &RequestsText,
    path: &str,
    problems: &mut Problems<'_>,
) -> OperationScope {
    let at = key_of(path, "graphql");
    // A service may take operations of a GET from its URL, and of other methods from elsewhere.
    if requests.methods != ["POST"] || requests.paths.is_empty() {
        let remedy = "write `methods: [POST]` and the paths of the GraphQL endpoint";
        problems.add(&at, "GraphQL operations are read from the body of a POST only", remedy);
    }
    if text.operations.is_empty() {
        let remedy = "name `query`, `mutation` or `subscription`";
        problems.add(&key_of(&at, "operations"), "this covers no operation", remedy);
    }
    let mut fields = |key: &str, texts: &[String]| -> Vec<FieldPattern> {
        let each = texts.iter().enumerate();
        each.filter_map(|(index, text)| {
            let found = FieldPattern::parse(text);
            if found.is_none() {
                let remedy = "write a name, `issue*` or `*Delete`";
                let at = item_of(&key_of(&at, key), index);
                problems.add(&at, "this is not the name of a field", remedy);
            }
            found
        })
        .collect()
    };
    OperationScope {
        kinds: text.operations.clone(),
        fields: fields("fields", &text.fields),
        without_fields: fields("without_fields", &text.without_fields),
    }
}
