//! [`PageRequest`]: what a browser says in a request for a page: its cookies, the page that sent it, and a form.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{Method, header};
use zeroize::Zeroizing;

use super::body_bytes::collect;
use super::state::Admin;
use keyward_base::host::{Host, Scheme, Target};
use keyward_vault::oauth::Cookies;

/// Fetch Metadata: the field in which a browser states the origin of its request.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// A request of a browser for a page, without its body.
pub struct PageRequest {
    pub admin: Admin,
    pub(super) parts: Parts,
}

impl FromRequestParts<Admin> for PageRequest {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Infallible> {
        Ok(Self { admin: admin.clone(), parts: parts.clone() })
    }
}

impl PageRequest {
    pub(super) fn is_get(&self) -> bool {
        self.parts.method == Method::GET
    }

    pub(super) fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    pub(super) fn cookies(&self) -> Cookies {
        let fields = self.parts.headers.get_all(header::COOKIE).iter();
        let fields = fields.filter_map(|field| field.to_str().ok());
        let pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        Cookies(pairs.collect())
    }

    /// Checks the origin of the request as the browser states it. Over plain HTTP to another machine, and in
    /// old browsers, only `Origin` is present. Without both, the `SameSite=Lax` cookie protects.
    pub(super) fn is_of_our_page(&self) -> bool {
        let (fields, public_url) = (&self.parts.headers, &self.admin.deps().public_url);
        if fields.contains_key(SEC_FETCH_SITE) {
            return fields.get_all(SEC_FETCH_SITE).iter().all(|site| site == "same-origin");
        }
        let host = fields.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        fields.get_all(header::ORIGIN).iter().all(|origin| {
            let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
            origin.is_some_and(|(scheme, authority)| {
                is_own_origin(scheme, authority, host, public_url)
            })
        })
    }

    /// Whether the page has the host of `public_url`, whose cookies the callback gets: those of a host are for all of its
    /// ports. Without `Origin` this is not known, because `Host` may be a reverse proxy's.
    pub(super) fn is_at_public_host(&self) -> bool {
        let public = host_of(&self.admin.deps().public_url);
        let origins = self.parts.headers.get_all(header::ORIGIN).iter();
        let mut hosts = origins.filter_map(|origin| host_of(origin.to_str().ok()?));
        hosts.all(|host| public.as_ref() == Some(&host))
    }

    /// The body of a form of our own or of a provider; its buffer is wiped.
    pub(super) async fn form(&self, body: Body, max_bytes: usize) -> Option<Zeroizing<Vec<u8>>> {
        let kind = self.parts.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return None;
        }
        let read = collect(body, max_bytes, None);
        let within = self.admin.deps().limits.head_timeout;
        tokio::time::timeout(within, read).await.ok()?.ok()
    }
}

/// The host of a URL without a user; `None` if it has none.
fn host_of(url: &str) -> Option<Host> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next().unwrap_or(rest);
    Some(Target::parse(Scheme::Https, authority).ok()?.host().clone())
}

/// Whether a page of this scheme and authority is ours: the request's `Host`, which was checked, or that of
/// `public_url`, if a reverse proxy uses another.
fn is_own_origin(scheme: &str, authority: &str, host: &str, public_url: &str) -> bool {
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return false,
    };
    let Ok(origin) = Target::parse(scheme, authority) else { return false };
    let public = public_url.split_once("://").filter(|(public, _)| *public == scheme.as_str());
    let public = public.map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
    [Some(host), public]
        .into_iter()
        .flatten()
        .any(|own| Target::parse(scheme, own).is_ok_and(|own| own == origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_requested_host_and_the_public_url_are_origins_of_the_gateway() {
        let is_ours = |origin: &str, host: &str| {
            let (scheme, authority) = origin.split_once("://").unwrap_or(("", origin));
            is_own_origin(scheme, authority, host, "https://kw.example.com/keyward")
        };
        for origin in [
            "null",
            "http://kw.example.com",
            "https://kw.example.com:8443",
            "https://kw.example.com.evil.test",
            "https://user@kw.example.com",
            "https://kw.example.com/",
            "http://localhost",
            "http://localhost:8082",
            "ftp://localhost:8081",
            "",
        ] {
            assert!(!is_ours(origin, "localhost:8081"), "{origin}");
        }
        for origin in
            ["http://localhost:8081", "https://kw.example.com", "https://kw.example.com:443"]
        {
            assert!(is_ours(origin, "localhost:8081"), "{origin}");
        }
        assert!(is_ours("https://gate.test", "gate.test"), "TLS ends before us");
    }
}
