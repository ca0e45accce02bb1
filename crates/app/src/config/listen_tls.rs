//! `{ at, tls }` of `listen.proxy`: a listener that agents speak TLS to; the certificate of the admin listener; and
//! addresses and URLs of listeners.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde_yaml::Value;

use super::reading::ConfigReading;
use keyward_base::host::{Host, Scheme, Target};
use keyward_rules::provider::document::key_of;

/// Where agents speak TLS to the proxy itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenTls {
    /// The address; port 0 is any free one.
    pub at: SocketAddr,
    /// Its certificate.
    pub by: Certificate,
}

/// The certificate of a listener.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Certificate {
    /// PEM files: a certificate with its intermediates, and its key.
    Files {
        /// The chain.
        cert: PathBuf,
        /// The key, which only its owner may read.
        key: PathBuf,
    },
    /// Leaves of our CA, for its address, `localhost` and these names.
    Own(Vec<Host>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenTlsText {
    at: Option<String>,
    tls: Option<TlsText>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsText {
    cert: Option<String>,
    key: Option<String>,
    #[serde(default)]
    names: Vec<String>,
}

pub(super) fn tls(value: &Value, path: &str, reading: &mut ConfigReading<'_>) -> Option<ListenTls> {
    let ListenTlsText { at, tls } = reading.section(Some(value), path)?;
    let at = reading.required(at, "at", path);
    if at.is_empty() {
        return None;
    }
    if tls.is_none() {
        let remedy = "add `tls: {}`, or write the address alone";
        reading.problems.add(path, "`tls` is missing", remedy);
    }
    let at = tcp(&at, &key_of(path, "at"), reading)?;
    let by = certificate_of(tls?, &key_of(path, "tls"), reading)?;
    Some(ListenTls { at, by })
}

/// Reads `{ cert, key, names }`.
pub(super) fn certificate(
    value: &Value,
    path: &str,
    reading: &mut ConfigReading<'_>,
) -> Option<Certificate> {
    certificate_of(reading.section(Some(value), path)?, path, reading)
}

fn certificate_of(
    text: TlsText,
    path: &str,
    reading: &mut ConfigReading<'_>,
) -> Option<Certificate> {
    let host = |name: &str| Host::parse(name).map_err(|_| "this is not a host");
    let remedy = "write `keyward.example.com`";
    let mut names = vec![Host::Name("localhost".into())];
    names.extend(reading.parsed(&text.names, &key_of(path, "names"), host, remedy));
    match (text.cert, text.key) {
        (None, None) => Some(Certificate::Own(names)),
        (Some(cert), Some(key)) if text.names.is_empty() => Some(Certificate::Files {
            cert: reading.input(&cert, &key_of(path, "cert"))?,
            key: reading.input(&key, &key_of(path, "key"))?,
        }),
        (Some(_), Some(_)) => {
            let message = "`names` are those of the certificate that is given";
            reading.problems.add(path, message, "remove `names`");
            None
        }
        _ => {
            let message = "a certificate and its key belong together";
            let remedy = "name `cert` and `key`, or omit both for one of Keyward's own CA";
            reading.problems.add(path, message, remedy);
            None
        }
    }
}

pub(super) fn tcp(text: &str, path: &str, reading: &mut ConfigReading<'_>) -> Option<SocketAddr> {
    let addr = text.parse().ok();
    if addr.is_none() {
        let message = format!("`{text}` is not an address with a port");
        reading.problems.add(path, message, "write numbers, such as `127.0.0.1:8080`");
    }
    addr
}

/// The URL of a server, without a slash at its end.
pub(super) fn base_url(url: String, path: &str, reading: &mut ConfigReading<'_>) -> String {
    if !is_base_url(&url) {
        let remedy = "write `https://keyward.example.com`, without user, query and fragment";
        reading.problems.add(path, "this is not the URL of a server", remedy);
    }
    url.trim_end_matches('/').to_owned()
}

fn is_base_url(url: &str) -> bool {
    let http = url.strip_prefix("http://").map(|rest| (Scheme::Http, rest));
    let https = || url.strip_prefix("https://").map(|rest| (Scheme::Https, rest));
    let Some((scheme, rest)) = http.or_else(https) else { return false };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    Target::parse(scheme, authority).is_ok()
        && path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'))
}
