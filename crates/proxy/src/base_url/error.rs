//! [`BaseUrlError`]: why a request by a base URL is refused before the exchange begins. [`BaseUrlError::text`] is
//! the table of code, message and hint of each.

use std::fmt;
use std::sync::Arc;

use keyward_base::codes::{Code, RefusalText};

/// Why a base URL is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BaseUrlError {
    /// `listen.base_urls: false`.
    Off,
    /// A listener of one agent's own asks for no token, so that any page could use it.
    OwnListener,
    /// `Host` is missing, given twice, or a name that is not ours.
    NotOurs,
    /// The request comes, or may come, from a page of another site.
    CrossSite,
    /// No right token.
    Unauthenticated {
        /// Whether it carries a placeholder.
        placeholder: bool,
        /// Whether a browser sent it. A browser is not asked for a password, because it would then send it for any
        /// page.
        browser: bool,
    },
    /// The token is where URLs are logged.
    TokenInUrl,
    /// The agent has no such connection.
    Unknown {
        /// The name in the URL, truncated.
        name: Quoted,
        /// The most similar name of a connection that the agent has.
        near: Option<Arc<str>>,
    },
    /// All hosts of its provider are wildcards.
    ManyHosts {
        /// The name of the connection.
        connection: Arc<str>,
        /// The hosts of the connection.
        hosts: String,
    },
    /// The host in the URL does not belong to the connection.
    NotItsHost {
        /// The name of the connection.
        connection: Arc<str>,
        /// The hosts of the connection.
        hosts: String,
    },
}

/// Text from a client, truncated for quoting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Quoted(String);

/// The maximum number of quoted characters, the maximum length of a name.
const QUOTED_CHARS_MAX: usize = 64;

impl From<&str> for Quoted {
    fn from(text: &str) -> Self {
        Self(text.chars().take(QUOTED_CHARS_MAX).collect())
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BaseUrlError {
    /// Code, message and hint.
    pub fn text(&self) -> RefusalText {
        match self {
            Self::Off => Code::BaseUrlRefused
                .because("base URLs are switched off")
                .hint("set `listen.base_urls: true`, or use the gateway as a proxy"),
            Self::OwnListener => Code::BaseUrlRefused
                .because("base URLs do not work on the listener of one agent")
                .hint("send it to a listener of `listen.proxy`, with the agent's token"),
            Self::NotOurs => Code::HostMismatch
                .because("`Host` is not a name of this gateway")
                .hint("use its address, `localhost`, or a name that `listen.base_url_hosts` lists"),
            Self::CrossSite => {
                Code::CrossSiteRefused.because("requests of other sites are refused").usual_hint()
            }
            Self::Unauthenticated { placeholder: true, .. } => Code::BaseUrlUnauthenticated
                .because("the request carries a placeholder where the agent's token belongs")
                .usual_hint(),
            Self::Unauthenticated { placeholder: false, .. } => Code::BaseUrlUnauthenticated
                .because("the request carries no valid token of an agent")
                .usual_hint(),
            Self::TokenInUrl => Code::BadRequest.because("the URL contains the agent's token").hint(
                "send it in a field, such as `Keyward-Token`, and issue a new one: URLs are logged",
            ),
            Self::Unknown { name, near } => Code::ConnectionMissing
                .because(format!("this agent has no connection `{name}`"))
                .hint(match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("bind it: `keyward agent bind NAME {name}`"),
                }),
            Self::ManyHosts { connection, hosts } => Code::BadTarget
                .because(format!(
                    "connection `{connection}` has only wildcard hosts, so its base URL must \
                     name a host"
                ))
                .hint(name_a_host(connection, hosts)),
            Self::NotItsHost { connection, hosts } => Code::Denied
                .because(format!("the host in the URL is not a host of connection `{connection}`"))
                .hint(name_a_host(connection, hosts)),
        }
    }

    /// The connection concerned.
    pub fn connection(&self) -> Option<&Arc<str>> {
        match self {
            Self::ManyHosts { connection, .. } | Self::NotItsHost { connection, .. } => {
                Some(connection)
            }
            _ => None,
        }
    }
}

impl fmt::Display for BaseUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text().message)
    }
}

impl std::error::Error for BaseUrlError {}

fn name_a_host(connection: &str, hosts: &str) -> String {
    format!("name one of its hosts: /to/{connection}@HOST/…, where HOST is in {hosts}")
}
