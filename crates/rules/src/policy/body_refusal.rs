//! Messages of refusals that depend on the body of a request.

use crate::git_push::PushUnclear;
use crate::graphql::NotUnderstood;
use keyward_base::codes::{Code, RefusalText};
use keyward_base::id::RuleId;

pub(super) fn body_unread(rule: &RuleId) -> RefusalText {
    Code::Denied
        .because(format!(
            "`{rule}` depends on the GraphQL operations or the branches in the request's body, which is not known here"
        ))
        .hint(
            "to explain a request with them: `keyward explain POST URL --agent NAME --graphql TEXT`, or `--push BRANCH`",
        )
}

pub(super) fn operations_unclear(rule: &RuleId, why: NotUnderstood) -> RefusalText {
    Code::Denied
        .because(format!("`{rule}` depends on the GraphQL operations in the request's body, and the body {why}"))
        .hint(
            "send a POST with `application/json`, the whole document in `query` and values in `variables`, or allow \
             the agent the action that has all operations",
        )
}

pub(super) fn push_unclear(rule: &RuleId, why: PushUnclear) -> RefusalText {
    Code::Denied
        .because(format!("`{rule}` depends on what a push changes, and the body {why}"))
        .hint(
            "push fewer branches at once, without push options, without a signature of the push and without compression",
        )
}

pub(super) fn beyond_branches(
    rule: &RuleId,
    reference: &str,
    deletes: bool,
    branches: &str,
) -> RefusalText {
    let name = reference.strip_prefix("refs/heads/").unwrap_or(reference);
    let (verb, hint) = match deletes {
        true => ("delete", "to allow it: `delete_branches: true` in the rule"),
        false => ("push to", "push to another branch, or add this one to `branches` of the rule"),
    };
    Code::Denied
        .because(format!(
            "rule `{rule}` allows pushes to {branches} only, and this would {verb} `{name}`"
        ))
        .hint(hint)
}

/// The request can do what the rule or binding denies, such as a batch.
pub(super) fn indirect(rule: &RuleId) -> RefusalText {
    Code::Denied
        .because(format!(
            "this is a batch of requests, a text with commands, or another form of the service's API, which can do what `{rule}` denies, and \
             what it does is not read"
        ))
        .hint(
            "send the requests of a batch one by one, each to the path that the service documents for it; for texts, list what \
             the agent may do (`allow`) instead of what it may not",
        )
}
