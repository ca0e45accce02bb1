//! Messages of refusals of requests for which a connection is not used.

use keyward_base::codes::{Code, RefusalText};
use keyward_base::id::RuleId;

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
