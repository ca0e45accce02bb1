//! `listen.hooks`: a listener that takes the webhooks of services and nothing else, so that the admin listener need not be
//! reachable for them.

use std::net::SocketAddr;

use serde::Deserialize;
use serde_yaml::Value;

use super::addresses::{base_url, tcp};
use super::listen_tls::{self, Certificate};
use super::reading::ConfigReading;
use keyward_base::keys::section;

/// The listener for webhooks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenHooks {
    /// The address; port 0 is any free one.
    pub at: SocketAddr,
    /// The URL at which services reach it, without a slash at its end; `None`: that of its address.
    pub url: Option<String>,
    /// What it proves itself by, if it speaks TLS.
    pub tls: Option<Certificate>,
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct ListenHooksText {
        /// Port 0 means any free port.
        #[key("`IP:PORT`", required)]
        at: Option<String>,
        /// The URL at which services reach it: the base of the hooks' URLs, by default that of `at`. Some services sign it.
        #[key("URL of a server")]
        url: Option<String>,
        /// With `cert` and `key`, PEM files whose changes are applied, or without them with leaves of Keyward's CA for
        /// its address, `localhost` and `names`. Then it speaks TLS only.
        #[key("`{ cert, key, names }`")]
        tls: Option<Value>,
    }
}

impl ListenHooks {
    /// The base of the hooks' URLs, for a listener that is bound here.
    pub fn base(&self, bound: SocketAddr) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.url.clone().unwrap_or_else(|| format!("{scheme}://{bound}"))
    }
}

pub(super) fn hooks(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> Option<ListenHooks> {
    let path = "listen.hooks";
    let text = reading.section::<ListenHooksText>(value, path)?;
    let at = reading.required(text.at, "at", path);
    if at.is_empty() {
        return None;
    }
    let at = tcp(&at, "listen.hooks.at", reading)?;
    let tls = text.tls.as_ref();
    let tls = tls.and_then(|tls| listen_tls::certificate(tls, "listen.hooks.tls", reading));
    let url = text.url.map(|url| base_url(url, "listen.hooks.url", reading));
    Some(ListenHooks { at, url, tls })
}
