//! Base URLs, for programs that cannot use a proxy: `http://ADDRESS/to/CONNECTION/…` and
//! `http://CONNECTION.localhost/…` stand for `https://HOST/…`, the host of that connection.
//!
//! Here an origin-form request becomes a [`Session`] that knows its target; the rest is the spine's.
//! `place.rs` reads what the URL names, `token.rs` finds out who asks, `back.rs` leads answers back.

mod back;
mod fault;
mod place;
mod token;

use std::sync::Arc;

use http::header::{ORIGIN, REFERER};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, Uri};
use percent_encoding::percent_decode_str;

use self::back::WayBack;
use super::authenticate::Proof;
use super::body::{AnswerBody, RequestBody};
use super::connect::{Unopened, refused};
use super::error::Refusal;
use super::session::{Accepted, Entry, Session};
use super::{Core, exchange};
use crate::base::agent::{Agent, TOKEN_PREFIX};
use crate::base::host::{Scheme, Target};
use crate::inject::strip;
use crate::policy::{Account, Policy};
use crate::provider::decode::nearest;

pub use fault::Fault;
pub use place::{BaseUrls, Place};

/// So many of a connection's hosts are listed in a refusal.
const LISTED_MAX: usize = 8;

/// Answers a request whose URL named a place: admits it, and sends it through the spine.
pub(super) async fn answer(
    core: &Arc<Core>,
    accepted: &Arc<Accepted>,
    request: Request<RequestBody>,
    place: Result<Place, Fault>,
) -> Response<AnswerBody> {
    let (method, path) = (request.method().clone(), shown(request.uri()));
    match admit(core, accepted, request, place) {
        Ok((session, way, request)) => {
            let mut response = exchange::answer(core, &session, request).await;
            way.lead(response.headers_mut());
            response
        }
        Err(refused_to) => {
            let (refusal, agent) = *refused_to;
            let unopened = Unopened { method: &method, path: path.as_deref(), agent };
            refused(core, accepted, unopened, &refusal).await
        }
    }
}

/// An admitted request: whose it is, how its answer gets back, and what goes on.
type Admitted = (Arc<Session>, WayBack, Request<RequestBody>);

/// A refusal, and to whom, as far as that is known.
type Refused = Box<(Refusal, Option<Agent>)>;

/// In this order: nothing is said of connections to whoever is not authenticated.
fn admit(
    core: &Arc<Core>,
    accepted: &Arc<Accepted>,
    request: Request<RequestBody>,
    place: Result<Place, Fault>,
) -> Result<Admitted, Refused> {
    let nobody = |refusal: Refusal| Box::new((refusal, None));
    let place = place.map_err(|fault| nobody(fault.into()))?;
    if accepted.owner.is_some() {
        return Err(nobody(Fault::OwnListener.into()));
    }
    is_not_cross_site(request.headers(), &place).map_err(|fault| nobody(fault.into()))?;
    let proof = token::authenticate(&core.gateway, accepted.peer, request.headers());
    let Proof { agent, token } = proof.map_err(nobody)?;
    let known = |refusal: Refusal| Box::new((refusal, Some(agent.clone())));
    if holds(request.uri(), &token) {
        return Err(Box::new((Fault::TokenInUrl.into(), Some(agent))));
    }
    accepted.standing.admit(&core.gateway, &agent).map_err(known)?;
    let policy = core.gateway.rulebook.current();
    let (target, connection) = target(&policy, &agent, &place).map_err(|e| known(e.into()))?;
    let request = onward(request, &place, &token).map_err(known)?;
    let way = WayBack::new(place.prefix(), target.clone());
    let entry = Entry::BaseUrl { target, connection };
    let session = Session::new(agent, entry, accepted.pulse.clone(), accepted.clone());
    Ok((session, way, request))
}

/// The target of the base URL and the name of its connection.
///
/// # Errors
/// When the agent has no such connection, or it is not clear which of its hosts is meant.
pub fn target(policy: &Policy, agent: &Agent, place: &Place) -> Result<(Target, Arc<str>), Fault> {
    let Some(account) = policy.account(agent, place.connection()) else {
        let names = policy.account_names(agent);
        let near = nearest(place.connection(), names).map(Into::into);
        return Err(Fault::Unknown { name: place.connection().into(), near });
    };
    let name = account.name.clone();
    let target = match place.host() {
        None => account.home().ok_or_else(|| Fault::ManyHosts {
            connection: name.clone(),
            hosts: hosts_of(account),
        })?,
        Some(host) => Target::parse(Scheme::Https, host)
            .ok()
            .filter(|target| account.owning(target).is_some())
            .ok_or_else(|| Fault::NotItsHost {
                connection: name.clone(),
                hosts: hosts_of(account),
            })?,
    };
    Ok((target, name))
}

fn hosts_of(account: &Account) -> String {
    let hosts: Vec<_> = account.hosts.iter().take(LISTED_MAX).map(ToString::to_string).collect();
    hosts.join(", ")
}

/// The request as it would be inside a tunnel: its path is the upstream's, the agent's token and what
/// speaks of our own origin are gone.
fn onward(
    mut request: Request<RequestBody>,
    place: &Place,
    token: &str,
) -> Result<Request<RequestBody>, Refusal> {
    let sent = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let path: PathAndQuery = place
        .behind(sent)
        .parse()
        .map_err(|_| Refusal::BadRequest("what follows the connection is no path"))?;
    *request.uri_mut() = Uri::from(path);
    // The token may stand there too.
    request.body_mut().keeps_trailers();
    let fields = request.headers_mut();
    strip::holding(fields, token);
    // It is that of our own listener, else the request were refused.
    fields.remove(ORIGIN);
    let own = |value: &http::HeaderValue| {
        value.to_str().is_ok_and(|text| {
            let origin = text.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
            place.is_own(&origin)
        })
    };
    if fields.get_all(REFERER).iter().any(own) {
        fields.remove(REFERER);
    }
    Ok(request)
}

/// Browsers say where a request comes from: Fetch Metadata (`Sec-Fetch-Site`), and `Origin`. Only
/// their own user and pages of this very origin may ask; a CORS preflight is another site's.
fn is_not_cross_site(fields: &HeaderMap, place: &Place) -> Result<(), Fault> {
    let same = |value: &http::HeaderValue| value.to_str().is_ok_and(|origin| place.is_own(origin));
    let harmless = fields
        .get_all(token::SEC_FETCH_SITE)
        .iter()
        .all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"))
        && fields.get_all(ORIGIN).iter().all(same)
        && !fields.contains_key(http::header::ACCESS_CONTROL_REQUEST_METHOD);
    if harmless { Ok(()) } else { Err(Fault::CrossSite) }
}

/// The path for the record; one that may hold a token is not kept.
fn shown(uri: &Uri) -> Option<String> {
    let path = uri.path();
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    (!path.contains(TOKEN_PREFIX) && !decoded.contains(TOKEN_PREFIX)).then(|| path.to_owned())
}

/// Whether the text stands in the URL, plain or encoded.
fn holds(uri: &Uri, text: &str) -> bool {
    let sent = uri.path_and_query().map_or("", PathAndQuery::as_str);
    sent.contains(text)
        || sent.contains('%') && percent_decode_str(sent).decode_utf8_lossy().contains(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_a_url_however_it_is_written() {
        for (url, found) in [
            ("/to/x/bottoken_123/me", true),
            ("/to/x/?key=token_123", true),
            ("/to/x/?key=%74oken%5f123", true),
            ("/to/x/token_12", false),
            ("/", false),
        ] {
            assert_eq!(holds(&url.parse().unwrap(), "token_123"), found, "{url}");
        }
    }

    #[test]
    fn a_path_that_may_hold_a_token_is_not_kept() {
        for url in ["/to/x/botkwa_abc/me", "/to/x/bot%6bwa_abc/me"] {
            assert_eq!(shown(&url.parse().unwrap()), None, "{url}");
        }
        assert_eq!(shown(&"/to/x/v1?key=kwa_abc".parse().unwrap()).as_deref(), Some("/to/x/v1"));
    }
}
