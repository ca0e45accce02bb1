//! [`Refused`]: why a session is not opened, independent of the protocol.

use keyward_base::codes::{Code, RefusalText};

/// Why a session is not opened.
#[derive(Debug)]
pub enum Refused {
    /// By Keyward's data path, which has recorded it.
    Recorded(RefusalText),
    Keyward(RefusalText),
    /// The message of the client is malformed. The text does not quote it.
    Client(&'static str),
    /// The server refused the login, or proved nothing.
    Server(ServerRefusal),
}

/// Why a server opens no session.
#[derive(Clone, Debug)]
pub struct ServerRefusal {
    /// The code for the audit log, the words and the remedy.
    pub text: RefusalText,
    /// The state for clients, in protocols that have one.
    pub state: Option<String>,
    /// Whether the server rejects the user or the password.
    pub rejects_login: bool,
}

/// What a client is shown.
#[derive(Debug)]
pub struct RefusalWords {
    /// The code; `None` for a client that cannot be understood.
    pub code: Option<Code>,
    /// The reason, which begins with `keyward: `.
    pub message: String,
    /// The code and the id in the audit log.
    pub detail: Option<String>,
    /// What the reader should do.
    pub hint: Option<String>,
}

impl Refused {
    /// The code for the audit log; `None` for what is recorded already.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Recorded(_) => None,
            Self::Keyward(text) => Some(text.code),
            Self::Client(_) => Some(Code::BadRequest),
            Self::Server(refusal) => Some(refusal.text.code),
        }
    }

    /// The same for the session of a connection: if the server rejects its login, a test names the remedy.
    pub fn by_server_of(self, connection: &str) -> Self {
        match self {
            Self::Server(ServerRefusal { text, state, rejects_login })
                if text.code == Code::ConnectionBroken =>
            {
                let hint = format!("`keyward connection test {connection}` names the remedy");
                Self::Server(ServerRefusal { text: text.hint(hint), state, rejects_login })
            }
            other => other,
        }
    }

    /// What the client is shown, whatever its protocol.
    pub fn words(&self, exchange: Option<&str>) -> RefusalWords {
        let detail = |code: Code| {
            let exchange = exchange.map(|id| format!(", exchange {id}")).unwrap_or_default();
            Some(format!("code {code}{exchange}"))
        };
        match self {
            Self::Recorded(text) | Self::Keyward(text) => RefusalWords {
                code: Some(text.code),
                message: format!("keyward: {}", message(text)),
                detail: detail(text.code),
                hint: hint(text),
            },
            Self::Client(why) => RefusalWords {
                code: None,
                message: format!("keyward: {why}"),
                detail: None,
                hint: None,
            },
            Self::Server(ServerRefusal { text, .. }) => RefusalWords {
                code: Some(text.code),
                message: format!("keyward: {}", text.message),
                detail: detail(text.code),
                hint: text.hint.clone(),
            },
        }
    }
}

impl RefusalWords {
    /// All of it on one line, for protocols whose errors are a line.
    pub fn line(&self) -> String {
        let Self { message, detail, hint, .. } = self;
        let detail = detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
        let hint = hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        let line = format!("{message}{detail}{hint}");
        line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

impl From<RefusalText> for Refused {
    fn from(text: RefusalText) -> Self {
        Self::Recorded(text)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hint_for_a_rejected_login_names_the_connection() {
        let hint = |code: Code| {
            let text = code.because("no").hint("as before");
            let refusal = ServerRefusal { text, state: None, rejects_login: false };
            Refused::Server(refusal).by_server_of("main").words(None).hint
        };
        assert_eq!(hint(Code::UpstreamProtocol).as_deref(), Some("as before"));
        let named = "`keyward connection test main` names the remedy";
        assert_eq!(hint(Code::ConnectionBroken).as_deref(), Some(named));
    }
}
