//! Addresses and URLs in the configuration.

use std::net::SocketAddr;

use super::reading::ConfigReading;
use keyward_base::host::{Scheme, Target};

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
