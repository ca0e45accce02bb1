//! Serves requests that use a base URL: authenticates the agent, finds the target, makes a [`ProxySession`] and runs the
//! exchange. `token.rs` finds the agent's token, `answer_rewrite.rs` adapts redirects and cookies of the answer.

mod answer_rewrite;
mod token;

use std::sync::Arc;

use http::header::{ORIGIN, REFERER};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, Uri};

use self::answer_rewrite::AnswerRewrite;
use super::authenticate::{Authenticated, is_in_url};
use super::refused_request::{RefusedRequest, refused};
use crate::authorize::token_alerts;
use crate::base_url::{BaseUrl, BaseUrlError, target};
use crate::body::request_body::RequestBody;
use crate::exchange;
use crate::exchange::answer_body::AnswerBody;
use crate::gateway::Core;
use crate::refusal::Refusal;
use crate::session::{AcceptedStream, ProxySession, TargetSource, UnattachedAgent};
use keyward_base::agent::{Agent, TOKEN_PREFIX};
use keyward_base::host::Target;
use keyward_rules::inject::strip;

/// Serves a request by a base URL.
pub async fn answer(
    core: &Arc<Core>,
    accepted: &Arc<AcceptedStream>,
    request: Request<RequestBody>,
    base_url: Result<BaseUrl, BaseUrlError>,
) -> Response<AnswerBody> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    match resolve(core, accepted, request, base_url) {
        Ok(ResolvedRequest { session, rewrite, request }) => {
            let mut response = exchange::answer(core.clone(), session, request).await;
            rewrite.apply(response.headers_mut());
            response
        }
        Err(early) => {
            let EarlyRefusal { refusal, agent } = *early;
            let path = agent.as_ref().and_then(|_| shown(&uri, &refusal));
            let unopened = RefusedRequest { method: &method, path: path.as_deref(), agent };
            refused(core, accepted, unopened, &refusal).await
        }
    }
}

/// A request of a known agent to a known target.
struct ResolvedRequest {
    session: Arc<ProxySession>,
    rewrite: AnswerRewrite,
    request: Request<RequestBody>,
}

/// A refusal before the exchange begins.
struct EarlyRefusal {
    refusal: Refusal,
    /// The agent, if it is known.
    agent: Option<Arc<Agent>>,
}

/// The order matters: an unauthenticated client learns nothing about connections.
fn resolve(
    core: &Arc<Core>,
    accepted: &Arc<AcceptedStream>,
    request: Request<RequestBody>,
    base_url: Result<BaseUrl, BaseUrlError>,
) -> Result<ResolvedRequest, Box<EarlyRefusal>> {
    let early = |refusal, agent| Box::new(EarlyRefusal { refusal, agent });
    let base_url = base_url.map_err(|fault| early(fault.into(), None))?;
    if accepted.owner.is_some() {
        return Err(early(BaseUrlError::OwnListener.into(), None));
    }
    is_not_cross_site(request.headers(), &base_url).map_err(|fault| early(fault.into(), None))?;
    let proof = token::authenticate(&core.gateway, accepted.peer, request.headers());
    let Authenticated { agent, token } = proof.map_err(|refusal| early(refusal, None))?;
    let refused = |refusal: Refusal, agent: Arc<Agent>| {
        token_alerts::report_of_refused_request(&core.gateway, &agent, None, &request);
        early(refusal, Some(agent))
    };
    if is_in_url(request.uri(), &token) {
        return Err(refused(BaseUrlError::TokenInUrl.into(), agent));
    }
    let attached = match accepted.attach_agent(&core.gateway, agent) {
        Ok(attached) => attached,
        Err(unattached) => {
            let UnattachedAgent { agent, refusal } = *unattached;
            return Err(refused(refusal, agent));
        }
    };
    let found = find_target(core, &request, &base_url, attached.agent());
    let found = found.map_err(|refusal| refused(refusal, attached.agent().clone()))?;
    let ResolvedTarget { target, connection, path } = found;
    let request = onward(request, path, &base_url, &token);
    let rewrite = AnswerRewrite::new(accepted.scheme, base_url.prefix(), target.clone());
    let target_source = TargetSource::BaseUrl { target, connection };
    let session = ProxySession::new(attached, target_source, accepted.watchdog.clone());
    Ok(ResolvedRequest { session, rewrite, request })
}

/// The target of an authenticated request.
struct ResolvedTarget {
    target: Target,
    connection: Arc<str>,
    /// The path and query at the target.
    path: PathAndQuery,
}

fn find_target(
    core: &Core,
    request: &Request<RequestBody>,
    base_url: &BaseUrl,
    agent: &Agent,
) -> Result<ResolvedTarget, Refusal> {
    let policy = core.gateway.rulebook.current();
    let (target, connection) = target(&policy, agent, base_url)?;
    let sent = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let path = base_url.upstream_path(sent).parse();
    let path = path.map_err(|_| Refusal::BadRequest("the rest of the URL is not a path"))?;
    Ok(ResolvedTarget { target, connection, path })
}

/// Turns the request into one for the upstream: its path is the upstream's; the agent's token and fields about our
/// own origin are removed.
fn onward(
    mut request: Request<RequestBody>,
    path: PathAndQuery,
    base_url: &BaseUrl,
    token: &str,
) -> Request<RequestBody> {
    *request.uri_mut() = Uri::from(path);
    // Trailers may contain the token too.
    request.body_mut().drop_trailers();
    let fields = request.headers_mut();
    strip::holding(fields, token);
    // The origin is our own listener: all others were refused.
    fields.remove(ORIGIN);
    let own = |value: &http::HeaderValue| {
        value.to_str().is_ok_and(|text| {
            let origin = text.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
            base_url.is_own(&origin)
        })
    };
    if fields.get_all(REFERER).iter().any(own) {
        fields.remove(REFERER);
    }
    request
}

/// Refuses requests from other sites. Browsers send `Sec-Fetch-Site` (Fetch Metadata) and `Origin`: only the user
/// and pages of this origin may send requests; a CORS preflight comes from another site.
fn is_not_cross_site(fields: &HeaderMap, base_url: &BaseUrl) -> Result<(), BaseUrlError> {
    let same =
        |value: &http::HeaderValue| value.to_str().is_ok_and(|origin| base_url.is_own(origin));
    let harmless = fields
        .get_all(token::SEC_FETCH_SITE)
        .iter()
        .all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"))
        && fields.get_all(ORIGIN).iter().all(same)
        && !fields.contains_key(http::header::ACCESS_CONTROL_REQUEST_METHOD);
    if harmless { Ok(()) } else { Err(BaseUrlError::CrossSite) }
}

/// The path for the record of a refusal to a known agent; `None` if it may contain a token.
fn shown(uri: &Uri, refusal: &Refusal) -> Option<String> {
    let holds_token = matches!(refusal, Refusal::BaseUrl(BaseUrlError::TokenInUrl));
    // Of another agent, perhaps.
    let may_hold = || is_in_url(uri, TOKEN_PREFIX);
    (!holds_token && !may_hold()).then(|| uri.path().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_may_contain_a_token_is_not_recorded() {
        let shown = |url: &str, fault| shown(&url.parse().unwrap(), &Refusal::BaseUrl(fault));
        for url in ["/to/x/botkwa_abc/me", "/to/x/bot%6bwa_abc/me"] {
            assert_eq!(shown(url, BaseUrlError::NotOurs), None, "{url}");
        }
        assert_eq!(shown("/to/x/chosen", BaseUrlError::TokenInUrl), None);
        assert_eq!(shown("/to/x/v1", BaseUrlError::NotOurs).as_deref(), Some("/to/x/v1"));
    }
}
