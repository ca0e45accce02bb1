//! Refusals as PostgreSQL's clients show them: `ErrorResponse` with severity, SQLSTATE, message, detail and hint.

use super::messages::PostgresLoginError;
use super::startup::PostgresFormatError;
use crate::refused::{RefusalWords, Refused, ServerRefusal};
use keyward_base::codes::Code;

/// The message for the client.
pub fn bytes(refused: &Refused, exchange: Option<&str>) -> Vec<u8> {
    let RefusalWords { code, message, detail, hint } = refused.words(exchange);
    let state = match refused {
        Refused::Server(ServerRefusal { state: Some(state), .. }) => state,
        _ => code.map_or("08P01", state),
    };
    fatal(state, &message, detail.as_deref(), hint.as_deref())
}

impl From<PostgresFormatError> for Refused {
    fn from(malformed: PostgresFormatError) -> Self {
        Self::Client(malformed.text())
    }
}

impl From<PostgresLoginError> for Refused {
    fn from(error: PostgresLoginError) -> Self {
        let text = error.code().because(error.to_string());
        Self::Server(ServerRefusal {
            text: text.hint_if(error.hint().map(str::to_owned)),
            state: Some(error.state().to_owned()),
            rejects_login: matches!(&error, PostgresLoginError::Refused { state, .. } if state == "28P01"),
        })
    }
}

/// The SQLSTATE of a code (PostgreSQL, appendix A).
fn state(code: Code) -> &'static str {
    match code {
        Code::AgentUnauthenticated | Code::TooManyGuesses | Code::SessionExpired => "28P01",
        Code::ConnectionAmbiguous => "3D000",
        Code::ConnectionPaused
        | Code::ConnectionBroken
        | Code::PluginBlocked
        | Code::RefreshUnavailable
        | Code::SourceUnavailable
        | Code::AuditUnavailable => "57P03",
        Code::Overloaded | Code::RateLimited => "53300",
        Code::UpstreamUnreachable
        | Code::UpstreamTls
        | Code::UpstreamTimeout
        | Code::UpstreamProtocol => "08001",
        Code::Internal => "XX000",
        _ => "28000",
    }
}

/// `ErrorResponse` that ends the session.
pub fn fatal(state: &str, message: &str, detail: Option<&str>, hint: Option<&str>) -> Vec<u8> {
    let mut body = Vec::new();
    let fields = [
        (b'S', Some("FATAL")),
        (b'V', Some("FATAL")),
        (b'C', Some(state)),
        (b'M', Some(message)),
        (b'D', detail),
        (b'H', hint),
    ];
    for (field, value) in fields {
        let Some(value) = value else { continue };
        body.push(field);
        body.extend(value.bytes().filter(|byte| *byte != 0));
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [b"E", &length.to_be_bytes()[..], &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_streams_above_the_limit_is_a_whole_message() {
        let made = fatal("53300", "keyward: too many open streams, retry later", None, None);
        assert_eq!(super::super::OVERLOADED, made);
    }
}
