//! [`Fault`]: why a request by a base URL is refused before the spine, as a stable code, a status, and
//! words for people.

use std::sync::Arc;

/// Why a base URL is refused. [`code`](Self::code) and [`status`](Self::status) are the contract with
/// agents; the words may change.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// `listen.base_urls: false`.
    #[error("base URLs are switched off")]
    Off,
    /// A listener of one agent's own asks for no token, so that any page could use it.
    #[error("base URLs do not work on the listener of one agent")]
    OwnListener,
    /// `Host` is missing, given twice, or a name that is not ours.
    #[error("`Host` is not a name of this gateway")]
    NotOurs,
    /// A page of another site asks, or may.
    #[error("requests of other sites are refused")]
    CrossSite,
    /// No right token.
    #[error("{}", match placeholder {
        true => "the request carries a placeholder where the agent's token belongs",
        false => "the request carries no valid token of an agent",
    })]
    Unauthenticated {
        /// A placeholder stands in it.
        placeholder: bool,
        /// A browser sent it: it is not asked for a password, which it would send again and again
        /// for whatever page asks.
        browser: bool,
    },
    /// The token is where URLs are logged.
    #[error("the agent's token stands in the URL")]
    TokenInUrl,
    /// The agent has no such connection.
    #[error("this agent has no connection `{name}`")]
    Unknown {
        /// As named, cut.
        name: Quoted,
        /// The nearest one that it has.
        near: Option<Arc<str>>,
    },
    /// All hosts of its provider are wildcards.
    #[error("connection `{connection}` has no host that its base URL could mean")]
    ManyHosts {
        /// The connection's name.
        connection: Arc<str>,
        /// Its hosts.
        hosts: String,
    },
    /// The named host is none of the connection's.
    #[error("the host in the URL is none of connection `{connection}`")]
    NotItsHost {
        /// The connection's name.
        connection: Arc<str>,
        /// Its hosts.
        hosts: String,
    },
}

/// What a client sent, as far as it is quoted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Quoted(String);

/// So many characters of a name are quoted: as many as a name may have.
const QUOTED_CHARS_MAX: usize = 64;

impl From<&str> for Quoted {
    fn from(text: &str) -> Self {
        Self(text.chars().take(QUOTED_CHARS_MAX).collect())
    }
}

impl std::fmt::Display for Quoted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Fault {
    /// The HTTP status and the stable code.
    pub fn status_and_code(&self) -> (u16, &'static str) {
        match self {
            Self::Off | Self::OwnListener => (403, "base_url_refused"),
            Self::NotOurs => (421, "host_mismatch"),
            Self::CrossSite => (403, "cross_site_refused"),
            Self::Unauthenticated { .. } => (401, "agent_unauthenticated"),
            Self::TokenInUrl => (400, "bad_request"),
            Self::Unknown { .. } => (424, "connection_missing"),
            Self::ManyHosts { .. } => (400, "bad_target"),
            Self::NotItsHost { .. } => (403, "denied"),
        }
    }

    /// The connection that it is about.
    pub fn connection(&self) -> Option<&Arc<str>> {
        match self {
            Self::ManyHosts { connection, .. } | Self::NotItsHost { connection, .. } => {
                Some(connection)
            }
            _ => None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Off => "set `listen.base_urls: true`, or use the gateway as a proxy".to_owned(),
            Self::OwnListener => {
                "send it to a listener of `listen.proxy`, with the agent's token".to_owned()
            }
            Self::NotOurs => "use its address, `localhost`, or a name that \
                              `listen.base_url_hosts` lists"
                .to_owned(),
            Self::CrossSite => "base URLs are for programs, not for pages of a browser".to_owned(),
            Self::Unauthenticated { .. } => {
                "give the agent's token (kwa_…) as the program's API key, in `Keyward-Token`, or as \
                 http://NAME:TOKEN@HOST:PORT/to/…"
                    .to_owned()
            }
            Self::TokenInUrl => {
                "send it in a field, such as `Keyward-Token`, and issue a new one: URLs are logged"
                    .to_owned()
            }
            Self::Unknown { near: Some(near), .. } => format!("did you mean `{near}`?"),
            Self::Unknown { name, near: None } => {
                format!("bind it: `keyward agent bind NAME {name}`")
            }
            Self::ManyHosts { connection, hosts } | Self::NotItsHost { connection, hosts } => {
                format!("name one of its hosts: /to/{connection}@HOST/…, where HOST is in {hosts}")
            }
        }
    }
}
