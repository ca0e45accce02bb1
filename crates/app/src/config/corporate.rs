//! `upstream.proxy:`: the proxy of a company's network. The process's own `HTTPS_PROXY` is not read:
//! a variable that was meant for other programs must not decide where credentials go.

use serde::Deserialize;
use serde_yaml::Value;

use super::environment::VariableSource;
use super::reading::ConfigReading;
use super::secret::{SecretSource, SecretSourceError};
use super::source;
use keyward_base::host::{Scheme, Target};
use keyward_base::keys::section;
use keyward_net::corporate::{CorporateLoginError, CorporateProxy, ProxyException};
use keyward_rules::provider::document::key_of;

const PATH: &str = "upstream.proxy";

/// A proxy that upstreams are reached by.
#[derive(Clone, Debug)]
pub struct UpstreamProxy {
    /// Where it is; the scheme says how it is spoken to.
    at: Target,
    /// Targets that are dialled directly.
    except: Vec<ProxyException>,
    /// User and password.
    login: Option<(String, SecretSource)>,
}

/// Why there is no login.
#[derive(Debug, thiserror::Error)]
pub enum ProxyLoginError {
    /// There is no password.
    #[error("`upstream.proxy.password`: {0}")]
    Password(#[from] SecretSourceError),
    /// It cannot be sent.
    #[error("`upstream.proxy`: {0}")]
    Login(#[from] CorporateLoginError),
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct ProxyText {
        /// Its address; `https://` uses TLS to the proxy. With both schemes, credentials pass it only inside
        /// TLS with the upstream.
        #[key("`http://HOST:PORT` or `https://HOST:PORT`", required)]
        url: Option<String>,
        /// Hosts that are reached directly: `.corp.example` is every name below, `git.corp.example` that
        /// name, `10.0.0.0/8` targets that are written as such an address. Names are not resolved for the
        /// comparison. `localhost`, loopback addresses and hosts of `resolve` never use the proxy.
        #[key("list of hosts, `.DOMAIN` and networks", "[]")]
        #[serde(default)]
        except: Vec<String>,
        /// The user for Basic authentication to the proxy (RFC 7617).
        #[key("text")]
        user: Option<String>,
        /// The password of `user`.
        #[key("[secret](#secrets)")]
        password: Option<Value>,
    }
}

impl UpstreamProxy {
    /// The proxy with its login, which is read now. A command does not see the `hidden` variables.
    ///
    /// # Errors
    /// When there is no password, or it cannot be sent.
    pub fn load(
        &self,
        environment: &VariableSource,
        hidden: &[&str],
    ) -> Result<CorporateProxy, ProxyLoginError> {
        let proxy = self.without_login();
        let Some((user, password)) = &self.login else { return Ok(proxy) };
        Ok(proxy.with_login(user, &password.load(environment, hidden)?)?)
    }

    /// The proxy without its login, to find out which targets use it.
    pub fn without_login(&self) -> CorporateProxy {
        CorporateProxy::new(self.at.clone(), self.except.clone())
    }

    /// Where the password is read from.
    pub(super) fn password(&self) -> Option<&SecretSource> {
        self.login.as_ref().map(|(_, password)| password)
    }
}

pub(super) fn proxy(
    value: Option<&Value>,
    reading: &mut ConfigReading<'_>,
) -> Option<UpstreamProxy> {
    let text = reading.section::<ProxyText>(value, PATH)?;
    let remedy = "write `.corp.example`, `git.corp.example` or `10.0.0.0/8`";
    let at_except = key_of(PATH, "except");
    let except = reading.parsed(&text.except, &at_except, ProxyException::parse, remedy);
    let password = text
        .password
        .as_ref()
        .and_then(|value| source::secret(value, &key_of(PATH, "password"), reading));
    let login = match (text.user, text.password.is_some()) {
        (Some(user), true) => password.map(|password| (user, password)),
        (None, false) => None,
        _ => {
            let message = "`user` and `password` belong together";
            reading.problems.add(PATH, message, "name both, or omit both");
            None
        }
    };
    let url = reading.required(text.url, "url", PATH);
    if url.is_empty() {
        return None;
    }
    Some(UpstreamProxy { at: at(&url, reading)?, except, login })
}

/// The text of a wrong URL is not repeated: it may be a password.
fn at(url: &str, reading: &mut ConfigReading<'_>) -> Option<Target> {
    let path = key_of(PATH, "url");
    if url.contains('@') {
        let remedy = "remove them, and add `user: NAME` and `password: { env: NAME }` beside `url`";
        reading.problems.add(&path, "the URL holds a user or a password", remedy);
        return None;
    }
    let http = url.strip_prefix("http://").map(|rest| (Scheme::Http, rest));
    let https = || url.strip_prefix("https://").map(|rest| (Scheme::Https, rest));
    let at = http.or_else(https).and_then(|(scheme, rest)| {
        Target::parse(scheme, rest.strip_suffix('/').unwrap_or(rest)).ok()
    });
    if at.is_none() {
        let remedy = "write `http://proxy.example:3128` or `https://proxy.example:3129`";
        reading.problems.add(&path, "this is not the URL of a proxy", remedy);
    }
    at
}
