//! Messages of refusals by rules that use a connection, but not for the refused request.

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
