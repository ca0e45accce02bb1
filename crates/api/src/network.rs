//! The API over the network: who may ask, and how. Tokens are accepted from this machine and over TLS, the listener's
//! own or that of a reverse proxy that the configuration names; a token in cleartext is never looked up. Pages of
//! other sites are refused, unless the configuration names their origin (CORS).

mod forwarded;
mod limits;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use ipnet::IpNet;

use self::forwarded::ForwardedFields;
use self::limits::ApiLimits;
use self::limits::RunningRequests;
pub(crate) use self::limits::{RunningRequest, STREAMS_MAX};
use super::auth::login::is_of_own_page;
use super::auth::{Caller, DOCUMENT, middleware};
use super::catch_up::catch_up;
use super::error::ApiError;
use super::host::{Arrival, OwnNames, UnprovedSender};
use super::request_refusal::RequestRefusal;
use super::sign_in::{is_sign_in, is_sign_in_page};
use super::state::Admin;
use crate::request_id::SecureRequest;
use keyward_base::codes::Code;
use keyward_base::host::{Scheme, Target};

/// How long a browser may remember the answer to a preflight, in seconds.
const PREFLIGHT_AGE: &str = "600";
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const ALLOWED_FIELDS: &str =
    "authorization, content-type, idempotency-key, if-match, if-none-match, keyward-org";
const EXPOSED_FIELDS: &str = "etag, idempotency-replayed, keyward-request, location, retry-after";

/// How the admin listener is reached.
#[derive(Clone, Debug)]
pub struct NetworkAccess {
    /// The names that are accepted in `Host`.
    pub names: OwnNames,
    /// Reverse proxies whose forwarded fields are believed.
    pub proxies: Vec<IpNet>,
    /// Origins of other sites whose pages may use the API.
    pub origins: Vec<Target>,
    /// Whether `/metrics` needs no token.
    pub metrics_are_open: bool,
}

/// The state of the network's middleware; cheap to clone.
#[derive(Clone)]
pub(super) struct Network(Arc<NetworkState>);

struct NetworkState {
    admin: Admin,
    access: NetworkAccess,
    limits: ApiLimits,
    running: RunningRequests,
}

/// The client of a request that did not come in cleartext from another machine.
#[derive(Clone, Copy, Debug)]
struct NetworkClient(IpAddr);

impl Network {
    pub(super) fn new(admin: Admin, access: NetworkAccess) -> Self {
        let limits = ApiLimits::new(&admin.deps().limits, &admin.deps().shared_limits);
        Self(Arc::new(NetworkState { admin, access, limits, running: RunningRequests::default() }))
    }
}

impl NetworkAccess {
    fn believes(&self, peer: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&peer))
    }

    /// The address that the bodies of a request count for until it is authenticated.
    fn unproved_sender(&self, arrival: Arrival, fields: &HeaderMap) -> UnprovedSender {
        let peer = arrival.peer.ip().to_canonical();
        UnprovedSender(self.client(arrival, fields).map_or(peer, |NetworkClient(client)| client))
    }

    /// The client, unless its token would have been readable on the way. A peer on this machine that forwards for
    /// others must be a proxy that is named.
    fn client(
        &self,
        arrival: Arrival,
        fields: &HeaderMap,
    ) -> Result<NetworkClient, RequestRefusal> {
        let (peer, forwarded) = (arrival.peer.ip().to_canonical(), ForwardedFields::of(fields));
        let is_direct = arrival.is_tls || peer.is_loopback();
        match (forwarded.is_present, self.believes(peer)) {
            (true, true) if forwarded.is_secure() => {
                Ok(NetworkClient(forwarded.client(peer, |hop| self.believes(hop))))
            }
            (true, false) if arrival.is_tls => Ok(NetworkClient(peer)),
            (false, _) if is_direct => Ok(NetworkClient(peer)),
            _ => Err(RequestRefusal::Cleartext),
        }
    }

    /// The scheme that the client used.
    fn scheme(&self, arrival: Arrival, fields: &HeaderMap) -> Scheme {
        let by_proxy = || {
            self.believes(arrival.peer.ip().to_canonical())
                && ForwardedFields::of(fields).is_secure()
        };
        match arrival.is_tls || by_proxy() {
            true => Scheme::Https,
            false => Scheme::Http,
        }
    }

    /// The origin of another site that may read the answer; `None` for our own pages and for programs.
    fn foreign_origin(
        &self,
        arrival: Arrival,
        fields: &HeaderMap,
    ) -> Result<Option<HeaderValue>, RequestRefusal> {
        let mut given = fields.get_all(header::ORIGIN).iter();
        let Some(value) = given.next() else { return Ok(None) };
        let origin = value.to_str().ok().and_then(origin).filter(|_| given.next().is_none());
        let origin = origin.ok_or(RequestRefusal::ForeignOrigin)?;
        let host = fields.get(header::HOST).and_then(|host| host.to_str().ok());
        let scheme = self.scheme(arrival, fields);
        let own = host.and_then(|host| Target::parse(scheme, host).ok());
        match (own == Some(origin.clone()), self.origins.contains(&origin)) {
            (true, _) => Ok(None),
            (false, true) => Ok(Some(value.clone())),
            (false, false) => Err(RequestRefusal::ForeignOrigin),
        }
    }
}

/// Checks a request that a token must authenticate, and authenticates it; other paths are open.
pub(super) async fn on_network(
    State(network): State<Network>,
    Extension(arrival): Extension<Arrival>,
    mut request: Request,
    next: Next,
) -> Response {
    let NetworkState { access, .. } = &*network.0;
    let sender = access.unproved_sender(arrival, request.headers());
    request.extensions_mut().insert(sender);
    let path = request.uri().path();
    let is_of_api = (path == "/api" || path.starts_with("/api/")) && path != DOCUMENT;
    let visit = |request: &Request, is_foreign| {
        let NetworkClient(client) = access.client(arrival, request.headers())?;
        let is_https = access.scheme(arrival, request.headers()) == Scheme::Https;
        Ok::<_, RequestRefusal>(SecureRequest { client, is_https, is_foreign })
    };
    if is_sign_in_page(path) {
        // Its refusal is a page, too.
        let visit = visit(&request, false);
        request.extensions_mut().insert(visit);
        return next.run(request).await;
    }
    // The handler of the metrics authenticates by itself.
    if !is_of_api && (path != "/metrics" || access.metrics_are_open) {
        return next.run(request).await;
    }
    let origin = match access.foreign_origin(arrival, request.headers()) {
        Ok(origin) => origin,
        Err(refusal) => return ApiError::from(refusal).into_response(),
    };
    let mut response = match (request.method() == Method::OPTIONS, &origin) {
        (true, Some(_)) => preflight(),
        (true, None) => ApiError::Method.into_response(),
        (false, _) => match visit(&request, origin.is_some()) {
            Err(refusal) => ApiError::from(refusal).into_response(),
            Ok(_) if !is_of_api => next.run(request).await,
            Ok(visit) => {
                request.extensions_mut().insert(visit);
                if is_unknown(&network.0.admin, &request, &visit) {
                    catch_up(&network.0.admin).await;
                }
                match authenticated(&network.0, &request, visit) {
                    Ok(Some(caller)) => {
                        request.extensions_mut().remove::<UnprovedSender>();
                        serve(&network.0, caller, request, next).await
                    }
                    Ok(None) => next.run(request).await,
                    Err(refusal) => refusal.into_response(),
                }
            }
        },
    };
    if !access.origins.is_empty() {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(origin) = origin {
        let fields = response.headers_mut();
        fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static(EXPOSED_FIELDS);
        fields.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

/// Serves the request of a caller. It is counted until its answer ends: the listener takes the count from the answer
/// and drops it with the body.
async fn serve(network: &NetworkState, caller: Caller, request: Request, next: Next) -> Response {
    let running = caller.user().map(|user| network.running.begin(&user.org, &user.id));
    if let Some(None) = running {
        return ApiError::from(RequestRefusal::TooManyRunning).into_response();
    }
    let mut response = middleware::serve(&network.admin, caller, request, next).await;
    response.extensions_mut().insert(running.flatten().map(Arc::new));
    response
}

/// Whether a request has a token or login that is not known here; another replica may have just made it.
fn is_unknown(admin: &Admin, request: &Request, visit: &SecureRequest) -> bool {
    admin.deps().directory.is_shared()
        && !is_sign_in(request.method(), request.uri().path())
        && proves(request.headers())
        && Caller::on_network(admin, request, visit)
            .is_err_and(|refusal| refusal.code() == Code::Unauthenticated)
}

/// Whether a request has a token or a cookie. One that has neither guesses nothing.
fn proves(fields: &HeaderMap) -> bool {
    [header::AUTHORIZATION, header::COOKIE].iter().any(|name| fields.contains_key(name))
}

/// The caller; `None` for a sign-in, whose handler authenticates by itself.
fn authenticated(
    network: &NetworkState,
    request: &Request,
    visit: SecureRequest,
) -> Result<Option<Caller>, ApiError> {
    let fields = request.headers();
    let is_sign_in = is_sign_in(request.method(), request.uri().path());
    if is_sign_in && !fields.contains_key(header::AUTHORIZATION) {
        is_of_own_page(fields)?;
        return match visit.is_foreign {
            true => Err(RequestRefusal::ForeignOrigin.into()),
            false => Ok(None),
        };
    }
    match Caller::on_network(&network.admin, request, &visit) {
        Ok(caller) => {
            if let Some(credential) = caller.credential() {
                network.limits.take(credential)?;
            }
            Ok(Some(caller.with_client(visit.client)).filter(|_| !is_sign_in))
        }
        Err(refusal) if refusal.code() == Code::Unauthenticated => {
            if proves(fields) {
                network.limits.failed(visit.client)?;
            }
            Err(refusal)
        }
        Err(refusal) => Err(refusal),
    }
}

/// The answer to a browser that asks whether a page may send a request (CORS).
fn preflight() -> Response {
    let fields = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_FIELDS),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE),
    ];
    (StatusCode::NO_CONTENT, fields).into_response()
}

/// Parses `Origin`; `null` is foreign.
fn origin(text: &str) -> Option<Target> {
    let (scheme, authority) = match text.split_once("://")? {
        ("https", authority) => (Scheme::Https, authority),
        ("http", authority) => (Scheme::Http, authority),
        _ => return None,
    };
    Target::parse(scheme, authority).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> NetworkAccess {
        NetworkAccess {
            names: OwnNames::new(8081, Vec::new()),
            proxies: vec!["10.0.0.0/24".parse().unwrap(), "127.0.0.2/32".parse().unwrap()],
            origins: vec![origin("https://console.example.com").unwrap()],
            metrics_are_open: false,
        }
    }

    fn fields(given: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs =
            given.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        pairs.collect()
    }

    fn arrival(peer: &str, is_tls: bool) -> Arrival {
        let (local, peer) = ("10.0.0.9:8081".parse().unwrap(), format!("{peer}:4711"));
        Arrival { local, peer: peer.parse().unwrap(), is_tls }
    }

    const SECURE: &[(&str, &str)] =
        &[("x-forwarded-proto", "https"), ("x-forwarded-for", "203.0.113.9")];

    #[test]
    fn a_token_is_accepted_from_this_machine_over_tls_and_from_named_proxies_only() {
        const CLEAR: &[(&str, &str)] = &[("x-forwarded-proto", "http")];
        const FOR: &[(&str, &str)] = &[("x-forwarded-for", "203.0.113.9")];
        for (peer, is_tls, given, client) in [
            ("203.0.113.1", false, &[][..], None),
            ("203.0.113.1", false, SECURE, None),
            ("10.0.0.1", false, &[], None),
            ("10.0.0.1", false, CLEAR, None),
            ("10.0.0.1", false, FOR, None),
            ("10.0.0.1", true, CLEAR, None),
            // A proxy on this machine that is not named: whether its clients use TLS is unknown.
            ("127.0.0.1", false, SECURE, None),
            ("127.0.0.1", false, FOR, None),
            ("127.0.0.2", false, CLEAR, None),
            ("127.0.0.1", false, &[], Some("127.0.0.1")),
            ("127.0.0.2", false, &[], Some("127.0.0.2")),
            ("127.0.0.2", false, SECURE, Some("203.0.113.9")),
            ("10.0.0.1", false, SECURE, Some("203.0.113.9")),
            ("203.0.113.1", true, &[], Some("203.0.113.1")),
            ("203.0.113.1", true, SECURE, Some("203.0.113.1")),
            ("203.0.113.1", true, CLEAR, Some("203.0.113.1")),
        ] {
            let found = access().client(arrival(peer, is_tls), &fields(given)).ok();
            let found = found.map(|NetworkClient(client)| client.to_string());
            assert_eq!(found.as_deref(), client, "{peer} {is_tls} {given:?}");
        }
    }

    #[test]
    fn only_listed_origins_and_that_of_the_gateway_are_not_foreign() {
        let check = |host: &'static str, origin: &'static str, is_tls| {
            let given = fields(&[("host", host), ("origin", origin)]);
            let found = access().foreign_origin(arrival("203.0.113.1", is_tls), &given);
            found.map(|origin| origin.is_some())
        };
        for foreign in [
            "null",
            "https://evil.example",
            "http://console.example.com",
            "https://console.example.com:444",
            "https://console.example.com.evil.example",
            "https://a.console.example.com",
            "http://localhost:8081",
            "https://localhost:8082",
            "",
        ] {
            let refused = Err(RequestRefusal::ForeignOrigin);
            assert_eq!(check("localhost:8081", foreign, true), refused, "{foreign}");
        }
        assert_eq!(check("localhost:8081", "https://console.example.com", false), Ok(true));
        assert_eq!(check("localhost:8081", "https://console.example.com:443", false), Ok(true));
        assert_eq!(check("localhost:8081", "https://localhost:8081", true), Ok(false));
        assert_eq!(check("localhost:8081", "http://localhost:8081", false), Ok(false));
    }
}
