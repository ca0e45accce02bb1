//! Texts of refusals that take several lines: code, message and hint.

use keyward_base::codes::{Code, RefusalText};

const NO_START: &str = "no gateway starts with these rules; `keyward plan` shows all problems";

pub(super) fn not_found(what: &str, name: &str, near: Option<&str>) -> RefusalText {
    let hint = match what {
        "agent" | "app" | "connection" | "plugin" | "provider" | "rule" => {
            Some(format!("{}`keyward {what} list` shows which exist", did_you_mean(near)))
        }
        "binding" => Some("`keyward agent show NAME` lists them".to_owned()),
        "token" => Some(
            "`keyward token list` shows those of people, `keyward agent show NAME` those of an agent"
                .to_owned(),
        ),
        "login" | "session" | "stream" => {
            Some(format!("`keyward {what} list` shows those that are open"))
        }
        "user" | "hook" | "webhook" | "honeytoken" | "source" => Some(format!("`keyward {what} list` shows which exist")),
        "organisation" => Some("`keyward org list` shows which exist".to_owned()),
        "database listener" => {
            Some("`keyward database-listener list` shows which exist".to_owned())
        }
        "signature scheme" => {
            Some(format!("{}`keyward hook schemes` lists them", did_you_mean(near)))
        }
        "consent" => Some("`keyward connection consents` lists those that are open".to_owned()),
        "connect session" => Some("`keyward connect-link list` shows those of the last day".to_owned()),
        "event" => Some("`keyward hook events NAME` lists those that wait".to_owned()),
        _ => None,
    };
    Code::NotFound.because(format!("no {what} is named `{name}`")).hint_if(hint)
}

fn did_you_mean(near: Option<&str>) -> String {
    near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default()
}

pub(super) fn audit_unavailable() -> RefusalText {
    Code::AuditUnavailable
        .because("the audit log cannot be written, and nothing is changed without its record")
        .usual_hint()
}

pub(super) fn scope_missing(scope: &str) -> RefusalText {
    Code::ScopeMissing.because(format!("the token lacks the scope `{scope}`")).usual_hint()
}

pub(super) fn not_yours(what: &str, name: &str) -> RefusalText {
    Code::NotAllowed
        .because(format!("{what} `{name}` is not yours: you may use it, but not change it"))
}

pub(super) fn another_user(name: &str) -> RefusalText {
    Code::NotAllowed
        .because(format!("only user `{name}` and admins may do this"))
        .hint("ask an admin")
}

pub(super) fn name_taken(what: &str, name: &str) -> RefusalText {
    Code::NameTaken.because(format!("{what} `{name}` exists already")).usual_hint()
}

pub(super) fn media_type() -> RefusalText {
    Code::MediaTypeRefused
        .because("the body must be sent as application/json")
        .hint("add the field `Content-Type: application/json`")
}

pub(super) fn content_coding() -> RefusalText {
    Code::MediaTypeRefused
        .because("the body has a `Content-Encoding`, and bodies are read uncompressed")
        .hint("send the JSON as it is, without `Content-Encoding`")
}

pub(super) fn misdirected() -> RefusalText {
    Code::HostMismatch
        .because("this name is not served here")
        .hint("use the listener's own address, or set `public_url`")
}

pub(super) fn managed_by_file(what: &str, name: &str) -> RefusalText {
    let text = Code::ManagedByFile
        .because(format!("{what} `{name}` is managed by the configuration file"));
    match what {
        "agent" => text.hint(
            "change it in the configuration file: `use` names its connections, `plugins:` its plugins",
        ),
        "plugin" => {
            text.hint("change it, or its manifest, under `plugins:` of the configuration file")
        }
        "rule" => text.hint("change it under `rules:` of the configuration file"),
        "honeytoken" => text.hint("remove it under `honeytokens:` of the configuration file"),
        _ => text.usual_hint(),
    }
}

/// The refusal for an agent and a connection of different environments.
pub(super) fn environments(
    agent: &str,
    agent_in: &str,
    connection: &str,
    connection_in: &str,
) -> RefusalText {
    Code::EnvironmentMismatch
        .because(format!(
            "agent `{agent}` is in {agent_in} and connection `{connection}` in {connection_in}"
        ))
        .usual_hint()
}

pub(super) fn rules_refused(errors: &[String]) -> RefusalText {
    Code::ConfigRefused.because(errors.join("\n")).hint(NO_START)
}

pub(super) fn not_in_force(causes: &str) -> RefusalText {
    Code::NotInForce
        .because(format!("the change is stored but not in force: {causes}"))
        .usual_hint()
}

pub(super) fn reload_incomplete(causes: &str) -> RefusalText {
    Code::ReloadIncomplete
        .because(format!("the reload was interrupted, and may be in force in part: {causes}"))
        .hint(
            "the gateway tries it again until it succeeds; `keyward reload` tries at once, \
             `keyward status` shows the last result",
        )
}

pub(super) fn audit_unreadable(cause: &str) -> RefusalText {
    Code::AuditUnreadable.because(format!("the audit log cannot be read: {cause}")).usual_hint()
}

pub(super) fn answer_too_large(max_bytes: usize) -> RefusalText {
    Code::AnswerTooLarge
        .because(format!("the answer is longer than {max_bytes} bytes"))
        .usual_hint()
}

pub(super) fn wrong_proof(message: &str, hint: Option<&str>) -> RefusalText {
    Code::InvalidField.because(message).hint_if(hint.map(str::to_owned))
}

pub(super) fn prevented(message: &str, hint: Option<&str>) -> RefusalText {
    Code::Refused.because(message).hint_if(hint.map(str::to_owned))
}

pub(super) fn unauthenticated() -> RefusalText {
    Code::Unauthenticated
        .because("this needs a valid personal access token in `Authorization: Bearer kwp_…`")
        .usual_hint()
}
