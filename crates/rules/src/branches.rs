//! [`BranchScope`]: the branches of a rule. It sees whether a push deletes a branch, not whether it rewrites one: that depends
//! on the commits of the server.

use crate::git_push::{PushedRefs, RefUpdate, full_name, is_ref};

/// The branches of a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BranchScope {
    /// At least one.
    pub patterns: Vec<RefPattern>,
    /// Whether these may be deleted too.
    pub deletions: bool,
}

/// `main`, `agent/*`, or a full name such as `refs/tags/v*`. `*` is any text without `/`, `**` any text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RefPattern {
    text: Box<str>,
    full: Box<str>,
}

impl BranchScope {
    /// The first reference that is not among the branches; `None`: all are. To allow a push.
    pub fn beyond<'a>(&self, refs: &'a PushedRefs) -> Option<&'a RefUpdate> {
        let is_in = |update: &RefUpdate| {
            let is_named = self.patterns.iter().any(|it| it.matches(&update.name));
            is_named && (self.deletions || !update.deletes)
        };
        refs.updates().iter().find(|update| !is_in(update))
    }

    /// Whether a reference is among the branches. Used to deny a push. Case is ignored, because some servers store
    /// branches in file systems that ignore it.
    pub fn has_any(&self, refs: &PushedRefs) -> bool {
        let is_in = |update: &RefUpdate| {
            let name = update.name.to_lowercase();
            self.patterns.iter().any(|it| it.is_any_case(&name))
        };
        refs.updates().iter().any(is_in)
    }

    /// The patterns, as they were written.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.patterns.iter().map(|pattern| &*pattern.text).collect();
        names.join(", ")
    }
}

impl RefPattern {
    /// Parses a pattern. `None`: git has no such names.
    pub fn parse(text: &str) -> Option<Self> {
        let full = full_name(text);
        is_ref(&full.replace('*', "x"))
            .then(|| Self { text: text.into(), full: full.into_boxed_str() })
    }

    fn matches(&self, name: &str) -> bool {
        matches(self.full.as_bytes(), name.as_bytes())
    }

    /// `name` is in lower case.
    fn is_any_case(&self, name: &str) -> bool {
        matches(self.full.to_lowercase().as_bytes(), name.as_bytes())
    }
}

/// In time proportional to the product of the lengths: one row of "the pattern up to here matches the name up to there".
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut row = vec![false; name.len() + 1];
    row[0] = true;
    let mut rest = pattern;
    while let Some((&first, after)) = rest.split_first() {
        let (crosses, after) = match (first, after.strip_prefix(b"*")) {
            (b'*', Some(after)) => (Some(true), after),
            (b'*', None) => (Some(false), after),
            _ => (None, after),
        };
        rest = after;
        let mut next = vec![false; name.len() + 1];
        next[0] = crosses.is_some() && row[0];
        for (at, byte) in name.iter().enumerate() {
            next[at + 1] = match crosses {
                Some(crosses) => row[at + 1] || (next[at] && (crosses || *byte != b'/')),
                None => row[at] && *byte == first,
            };
        }
        row = next;
    }
    row[name.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The references of a push; `:NAME` is deleted.
    fn of(names: &[&str]) -> PushedRefs {
        PushedRefs::to_branches(names.iter().copied()).expect("names")
    }

    fn scope(patterns: &[&str], deletions: bool) -> BranchScope {
        let parse = |text: &&str| RefPattern::parse(text).unwrap_or_else(|| panic!("{text}"));
        BranchScope { patterns: patterns.iter().map(parse).collect(), deletions }
    }

    #[test]
    fn a_push_is_within_the_branches_only_if_each_of_its_references_is() {
        let agent = scope(&["agent/*", "docs-*"], false);
        for name in ["refs/heads/agent/a", "refs/heads/docs-2"] {
            assert_eq!(agent.beyond(&of(&[name])), None, "{name}");
        }
        for name in [
            "refs/heads/main",
            "refs/heads/agent",
            "refs/heads/agent/a/b",
            "refs/heads/Agent/a",
            "refs/heads/x/agent/a",
            "refs/tags/agent/a",
            "refs/for/agent/a",
        ] {
            let refs = of(&["refs/heads/agent/a", name]);
            assert_eq!(agent.beyond(&refs).map(|it| &*it.name), Some(name));
        }
        let deletion = of(&[":refs/heads/agent/a"]);
        assert!(agent.beyond(&deletion).is_some());
        assert!(scope(&["agent/**"], true).beyond(&deletion).is_none());
        let deep = of(&["refs/heads/agent/a/b", "refs/tags/v1.0"]);
        assert!(scope(&["agent/**", "refs/tags/v*"], false).beyond(&deep).is_none());
        assert!(agent.beyond(&of(&[])).is_none());
    }

    #[test]
    fn a_denied_branch_is_found_in_any_case_and_beside_other_references() {
        let main = scope(&["main", "release/**"], false);
        for name in ["refs/heads/main", "refs/heads/MAIN", "refs/heads/Release/1/2"] {
            assert!(main.has_any(&of(&["refs/heads/a", name])), "{name}");
            assert!(main.has_any(&of(&[&format!(":{name}")])), "{name}");
        }
        for name in ["refs/heads/main2", "refs/tags/main", "refs/heads/release"] {
            assert!(!main.has_any(&of(&[name])), "{name}");
        }
        assert!(!main.has_any(&of(&[])));
    }

    #[test]
    fn patterns_that_name_no_branch_are_refused() {
        for text in
            ["", "/", "a/", "/a", "a b", "a..b", "a~1", "refs/", "a.lock", "*.", "a?", "[ab]"]
        {
            assert_eq!(RefPattern::parse(text), None, "{text}");
        }
        for text in ["main", "*", "**", "agent/*", "a-*-b", "refs/tags/v*", "refs/**"] {
            assert!(RefPattern::parse(text).is_some(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn two_stars_match_every_name_that_one_star_matches(name in "[a-c/]{0,12}", pattern in "[a-c/*]{1,6}") {
            if matches(pattern.as_bytes(), name.as_bytes()) {
                let wider = pattern.replace("**", "*").replace('*', "**");
                prop_assert!(matches(wider.as_bytes(), name.as_bytes()));
            }
        }
    }
}
