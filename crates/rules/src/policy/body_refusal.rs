//! Messages of refusals that depend on the body of a request, and of requests for which a connection is not used.

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

/// The rule uses the connection for other requests only.
pub(super) fn narrowed(rule: &RuleId, connection: &str) -> RefusalText {
    Code::Denied
        .because(format!("rule `{rule}` uses connection `{connection}` for other requests only"))
}

/// The rule uses the connection for no request.
pub(super) fn refused_use(rule: &RuleId, connection: &str) -> RefusalText {
    Code::Denied
        .because(format!(
            "rule `{rule}` allows nothing: an action, host or path of it is not valid for connection `{connection}`"
        ))
        .hint("correct the rule, or remove it; a warning in the log says what is not valid")
}

/// The request selects the connection, whose credential has no place in it.
pub(super) fn no_place(connection: &str, places: &str) -> RefusalText {
    let message =
        format!("the credential of `{connection}` has no place in a request to this path");
    Code::BadRequest.because(message).hint(format!("it has one at {places}"))
}

/// The request may write with an authorization of its own.
pub(super) fn own_authorization(connection: &str) -> RefusalText {
    let message = format!(
        "the request has an authorization of its own, which connection `{connection}` does not \
         replace: it may only read, by GET or HEAD"
    );
    Code::OwnAuthorization.because(message).hint(format!(
        "sign it with the agent's placeholders, or let such requests pass: \
         `keyward agent bind NAME {connection} --own-authorization pass`"
    ))
}
