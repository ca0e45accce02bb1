//! Refusals as PostgreSQL's clients show them: `ErrorResponse` with severity, SQLSTATE, message, detail and hint.

use super::login::LoginError;
use super::startup::Malformed;
use keyward_base::codes::{Code, RefusalText};

/// Why a session is not opened.
#[derive(Debug)]
pub enum Refused {
    /// By Keyward's data path, which has recorded it.
    Recorded(RefusalText),
    /// By Keyward.
    Keyward(RefusalText),
    /// The client's message.
    Client(Malformed),
    /// The server refused the login, or proved nothing.
    Server(LoginError),
}

impl Refused {
    /// Something that the session depends on was revoked while it was opened.
    pub fn revoked() -> Self {
        Self::Keyward(Code::Denied.because("the agent's access was revoked during the login"))
    }

    /// The code for the audit log; `None` for what is recorded already.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Recorded(_) => None,
            Self::Keyward(text) => Some(text.code),
            Self::Client(_) => Some(Code::BadRequest),
            Self::Server(error) => Some(error.code()),
        }
    }

    /// The message for the client.
    pub fn bytes(&self, exchange: Option<&str>) -> Vec<u8> {
        match self {
            Self::Recorded(text) | Self::Keyward(text) => {
                let message = format!("keyward: {}", message(text));
                let exchange = exchange.map(|id| format!(", exchange {id}")).unwrap_or_default();
                let detail = format!("code {}{exchange}", text.code);
                fatal(state(text.code), &message, Some(&detail), hint(text).as_deref())
            }
            Self::Client(malformed) => fatal("08P01", &format!("keyward: {malformed}"), None, None),
            Self::Server(error) => {
                let exchange = exchange.map(|id| format!(", exchange {id}")).unwrap_or_default();
                let detail = format!("code {}{exchange}", error.code());
                let message = format!("keyward: {error}");
                fatal(error.state(), &message, Some(&detail), error.hint())
            }
        }
    }
}

impl From<RefusalText> for Refused {
    fn from(text: RefusalText) -> Self {
        Self::Recorded(text)
    }
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        Self::Client(malformed)
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

/// The message. That of the table is about a proxy.
fn message(text: &RefusalText) -> &str {
    match text.code {
        Code::AgentUnauthenticated => "the password is no valid token of an agent",
        _ => &text.message,
    }
}

/// What the reader should do. Some hints of the table are about proxies.
fn hint(text: &RefusalText) -> Option<String> {
    match text.code {
        Code::AgentUnauthenticated => {
            Some("give the agent's token (kwa_…) as the password".to_owned())
        }
        Code::PlaintextRefused => Some(
            "use `sslmode: verify-full`, or add the server's address to `upstream.allow_private`"
                .to_owned(),
        ),
        Code::UpstreamTls if text.hint.is_none() => {
            Some("name the root of a private CA in `upstream.trust`".to_owned())
        }
        _ => text.hint.clone(),
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
