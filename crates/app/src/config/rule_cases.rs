//! Reads the file of `keyward rule test FILE`: requests, and the decision that each expects. `rule_test.rs` of
//! `keyward-api` compares them with the rules.

use serde_yaml::Value;

use keyward_api::wire::RuleCase;
use keyward_rules::policy::explain::ActionKind;
use keyward_rules::provider::decode::decode;
use keyward_rules::provider::document::{Document, Problem, Problems, item_of, key_of};

/// A case, and where it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlacedCase {
    /// `rules.test.yaml:3`.
    pub place: String,
    pub case: RuleCase,
}

/// Reads a list of cases. `name` is how messages call the file.
///
/// # Errors
/// Everything that is wrong, each with file, line, path and remedy.
pub fn rule_cases(name: &str, text: &str) -> Result<Vec<PlacedCase>, Vec<Problem>> {
    let document = Document::parse(name, text)?;
    let mut problems = document.problems();
    let mut cases = Vec::new();
    match document.root() {
        Value::Sequence(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                let path = item_of("", index);
                let Some(case) = decode::<RuleCase>(item, &path, &mut problems) else { continue };
                check(&case, &path, &mut problems);
                cases.push(PlacedCase { place: document.origin(&path), case });
            }
        }
        _ => {
            let example =
                "write `- { agent: NAME, request: \"GET https://…\", expect: deny }` items";
            problems.add("", "there is no list of cases", example);
        }
    }
    match problems.count() {
        0 => Ok(cases),
        _ => Err(problems.into_vec()),
    }
}

/// What no request could fulfil is a mistake in the file, not in the rules.
fn check(case: &RuleCase, path: &str, problems: &mut Problems<'_>) {
    let mut words = case.request.split_whitespace();
    let url = match (words.next(), words.next(), words.next()) {
        (Some(url), None, _) | (Some(_), Some(url), None) => url,
        _ => "",
    };
    if !url.starts_with("https://") && !url.starts_with("http://") {
        let remedy = "write `METHOD URL`, or a URL, which begins with https:// or http://";
        problems.add(&key_of(path, "request"), "this is not a request", remedy);
    }
    if case.code.is_some() && case.expect != ActionKind::Deny {
        let remedy = "write `expect: deny`, or omit `code`";
        problems.add(&key_of(path, "code"), "only what is refused has a code", remedy);
    }
    if case.connection.is_some() && case.expect != ActionKind::Inject {
        let remedy = "write `expect: inject`, or omit `connection`";
        problems.add(&key_of(path, "connection"), "no credential would be injected", remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        let found = rule_cases("t.yaml", text).unwrap_err();
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_problem_of_the_cases_is_reported_with_its_line() {
        insta::assert_snapshot!(problems(
            "- { agent: ci, request: \"GET https://a.test/\", expect: allow }\n\
             - { agent: ci, request: a.test, expect: deny }\n\
             - { agent: ci, request: https://a.test/, expect: pass, code: denied }\n\
             - agent: ci\n  request: https://a.test/\n  expect: tunnel\n  connection: work\n\
             - { agnt: ci, request: \"GET https://a.test/ HTTP/1.1\", expect: deny }\n\
             - { request: https://a.test/ }\n"
        ));
        for none in ["", "[]", "a: 1", "text"] {
            assert!(problems(none).contains("there is no list of cases"), "{none}");
        }
    }

    #[test]
    fn each_case_is_read_with_its_file_and_line() {
        let text = "# rules of the team\n- agent: ci\n  request: DELETE https://a.test/x\n  \
                    expect: deny\n  rule: no-deletes\n\
                    - { agent: ci, request: http://a.test/, expect: inject, connection: work }\n";
        let cases = rule_cases("t.yaml", text).unwrap();
        let places: Vec<_> = cases.iter().map(|case| &*case.place).collect();
        assert_eq!(places, ["t.yaml:2", "t.yaml:6"]);
        assert_eq!(cases[0].case.rule.as_deref(), Some("no-deletes"));
        assert_eq!(cases[1].case.expect, ActionKind::Inject);
    }
}
