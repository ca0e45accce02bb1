//! Serves requests that use a base URL: authenticates the agent, finds the target, makes a [`ProxySession`] and runs the
//! exchange. `answer_rewrite.rs` adapts redirects and cookies of the answer.
//!
//! A program that uses a base URL can set only an address and an API key, so the agent's token is accepted wherever an API key
//! can stand.

mod answer_rewrite;

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue, ORIGIN, PROXY_AUTHORIZATION, REFERER};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, Uri};

use self::answer_rewrite::AnswerRewrite;
use super::authenticate::{
    Authenticated, PresentedToken, TokenError, authenticate_token, failure, is_in_url,
};
use super::{RefusedRequest, refused};
use crate::authorize::token_alerts;
use crate::base_url::{BaseUrl, BaseUrlError, target};
use crate::body::request_body::RequestBody;
use crate::exchange;
use crate::exchange::answer_body::AnswerBody;
use crate::exchange::respond;
use crate::gateway::{Core, Gateway};
use crate::probe::Seen;
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
    let is_examined = !core.gateway.probes.is_empty();
    let named = || base_url.as_ref().map_or("a base URL", BaseUrl::connection).to_owned();
    let named = is_examined.then(named);
    match resolve(core, accepted, request, base_url) {
        Ok(ResolvedRequest { session, rewrite, request }) => {
            let mut response = exchange::answer(core.clone(), session, request).await;
            rewrite.apply(response.headers_mut());
            response
        }
        Err(early) => {
            let EarlyRefusal { refusal, agent } = *early;
            if let Some(probed) = accepted.probed.get() {
                let text = respond::refusal_info(&refusal, None);
                probed.report(named, None, Seen::RefusedBaseUrl(text.into()));
            }
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
    let proof = authenticate_anywhere(&core.gateway, accepted.peer, request.headers());
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
        .get_all(SEC_FETCH_SITE)
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

/// Fetch Metadata: browsers send it, also to loopback; programs do not.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// `TOKEN` or `NAME:TOKEN`, for programs whose API key is a placeholder. Never forwarded, like every `Keyward-…`
/// field.
const KEYWARD_TOKEN: HeaderName = HeaderName::from_static("keyward-token");

/// The agent, and the token that proves it.
///
/// # Errors
/// [`BaseUrlError::Unauthenticated`] without a right token; [`Refusal::SessionEnded`] with that of a session that has
/// ended; [`Refusal::TooManyFailures`] when the address failed too often.
fn authenticate_anywhere(
    gateway: &Gateway,
    peer: Option<IpAddr>,
    fields: &HeaderMap,
) -> Result<Authenticated, Refusal> {
    let candidates = candidates(fields);
    let guessed = !candidates.is_empty();
    let mut session_ended = false;
    for candidate in candidates.into_iter().flatten() {
        match authenticate_token(gateway, candidate) {
            Ok(proof) => return Ok(proof),
            Err(unproved) => session_ended |= unproved == TokenError::SessionEnded,
        }
    }
    if session_ended {
        return Err(Refusal::SessionEnded);
    }
    let fault = BaseUrlError::Unauthenticated {
        placeholder: !strip::placeholders(fields, "/").is_empty(),
        browser: fields.contains_key(SEC_FETCH_SITE) || fields.contains_key(ORIGIN),
    };
    let unauthenticated = Refusal::BaseUrl(fault);
    Err(match guessed.then(|| failure(gateway, peer)) {
        Some(guessing @ Refusal::TooManyFailures { .. }) => guessing,
        _ => unauthenticated,
    })
}

/// Possible tokens in order; `None` for one that cannot be parsed. A field reserved for the token decides alone.
/// Otherwise `Authorization` is tried in any form, and other fields (`x-api-key`, …) if their value has the prefix
/// of issued tokens.
fn candidates(fields: &HeaderMap) -> Vec<Option<PresentedToken>> {
    let proxys = fields.get_all(PROXY_AUTHORIZATION).iter().map(PresentedToken::read);
    let ours =
        fields.get_all(KEYWARD_TOKEN).iter().map(|value| PresentedToken::pair(value.as_bytes()));
    let mut given: Vec<_> = proxys.chain(ours).collect();
    if given.len() > 1 {
        // Refused, because it is unclear which token is meant.
        return vec![None];
    }
    if given.is_empty() {
        given.extend(fields.get_all(AUTHORIZATION).iter().map(any));
        let others =
            fields.iter().filter(|(name, value)| *name != AUTHORIZATION && may_hold(value));
        let keys = others.filter_map(|(_, value)| any(value));
        given.extend(keys.filter(|one| one.token().starts_with(TOKEN_PREFIX)).map(Some));
    }
    given
}

/// Whether the value may contain an issued token. Most fields need no closer check.
fn may_hold(value: &HeaderValue) -> bool {
    let (bytes, mark) = (value.as_bytes(), TOKEN_PREFIX.as_bytes());
    bytes.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic "))
        || bytes.windows(mark.len()).any(|piece| piece == mark)
}

/// Reads Basic and Bearer; of other schemes (`token …`) and of values without a scheme, the last word. The user
/// name of a pair belongs to the API and is not checked: the token alone decides.
fn any(value: &HeaderValue) -> Option<PresentedToken> {
    let last = || value.as_bytes().rsplit(|byte| *byte == b' ').next();
    PresentedToken::read(value)
        .or_else(|| last().and_then(PresentedToken::pair))
        .map(PresentedToken::of_program)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

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

    fn read(lines: &[(&'static str, &str)]) -> Vec<String> {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, value.parse().unwrap());
        }
        let one =
            |one: Option<PresentedToken>| one.map_or("-".to_owned(), |one| one.token().to_owned());
        candidates(&fields).into_iter().map(one).collect()
    }

    #[test]
    fn keyward_token_and_proxy_authorization_override_other_token_fields() {
        let own = [("keyward-token", "kwa_a"), ("authorization", "Bearer kwa_b")];
        assert_eq!(read(&own), ["kwa_a"]);
        let proxys = [("proxy-authorization", "Bearer kwa_a"), ("x-api-key", "kwa_b")];
        assert_eq!(read(&proxys), ["kwa_a"]);
    }

    #[test]
    fn two_fields_that_override_the_others_yield_no_token() {
        for second in ["proxy-authorization", "keyward-token"] {
            assert_eq!(read(&[("keyward-token", "kwa_a"), (second, "Bearer kwa_a")]), ["-"]);
        }
    }

    #[test]
    fn a_token_is_read_from_the_field_of_the_api_key() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for (name, value, token) in [
            ("authorization", "Bearer chosen", "chosen"),
            ("authorization", &*basic("ci:chosen"), "chosen"),
            ("authorization", &*basic("chosen:"), "chosen"),
            ("authorization", &*basic("AC0123:kwa_a"), "kwa_a"),
            ("authorization", &*basic("kwa_a:x-oauth-basic"), "kwa_a"),
            ("authorization", "token chosen", "chosen"),
            ("authorization", "chosen", "chosen"),
            ("x-api-key", "kwa_a", "kwa_a"),
            ("x-auth", "Bearer kwa_a", "kwa_a"),
            ("x-auth", "Token kwa_a", "kwa_a"),
        ] {
            assert_eq!(read(&[(name, value)]), [token], "{name}: {value}");
        }
    }

    #[test]
    fn fields_without_a_token_are_not_counted_as_guesses() {
        let fields = [("x-api-key", "sk-abc"), ("user-agent", "curl/8"), ("accept", "*/*")];
        assert_eq!(read(&fields), [""; 0]);
    }
}
