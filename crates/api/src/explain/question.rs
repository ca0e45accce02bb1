//! The question of `/explain`: the request, the agent as authentication would make it, and a base URL of this
//! gateway, which the data path's parser converts into a question about the target.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::error::ApiError;
use crate::state::Admin;
use crate::wire::ExplainRequest;
use keyward_base::agent::Agent;
use keyward_base::codes::RefusalText;
use keyward_base::host::{Scheme, Target};
use keyward_base::pattern::{DecodedPath, PathError};
use keyward_model::Session;
use keyward_proxy::base_url::{self, BaseUrl, BaseUrlError, ServedBaseUrls};
use keyward_rules::git_push::PushedRefs;
use keyward_rules::graphql::{NotUnderstood, Operations};
use keyward_rules::inject::own_authorization::SentAuthorization;
use keyward_rules::inject::strip;
use keyward_rules::policy::{PolicyQuery, named_resources, overrides};
use keyward_state::directory::AgentRecord;

/// The field that names a connection; ignored if `connection` is given.
const KEYWARD_CONNECTION: &str = "keyward-connection";

#[derive(Debug)]
pub(super) struct DescribedRequest {
    pub(super) query: PolicyQuery,
    /// The path as it would be sent.
    pub(super) path_sent: String,
}

impl DescribedRequest {
    /// Parses the description as the data path parses a request.
    ///
    /// # Errors
    /// 422 that names the invalid part.
    pub(super) fn parse(ask: &ExplainRequest) -> Result<Self, ApiError> {
        let refused = |error: PathError| ApiError::field("url", error.to_string());
        let method = ask.method.as_deref().unwrap_or("GET");
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| ApiError::field("method", "is not an HTTP method"))?;
        let uri: Uri = ask.url.parse().map_err(|_| ApiError::field("url", "is not a URL"))?;
        let target = target(&uri)?;
        let path_sent = match uri.path() {
            "" => "/",
            path => path,
        };
        let fields = fields(ask)?;
        let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str());
        let overrides = overrides(&fields, uri.query())
            .map_err(|error| ApiError::field("headers", error.to_string()))?;
        let methods = std::iter::once(&method).chain(&overrides);
        let path = DecodedPath::parse(path_sent).map_err(refused)?;
        let resources = named_resources(&target, methods, &path, uri.query(), &fields)
            .map_err(|error| ApiError::field("headers", error.to_string()))?;
        let placeholders = strip::placeholders(&fields, path_and_query);
        let own = SentAuthorization::of(&fields, uri.query(), &placeholders);
        let query = PolicyQuery {
            target,
            method,
            resources,
            path,
            query: uri.query().map(Into::into),
            placeholders,
            named: named(ask, &fields),
            own,
            overrides,
            operations: ask.graphql.as_deref().map(|text| operations(text, &uri)),
            push: match ask.push.is_empty() {
                true => None,
                false => Some(Ok(pushed(&ask.push)?)),
            },
        };
        Ok(Self { query, path_sent: path_sent.to_owned() })
    }
}

/// The operations of a body with this document, as a program would send it.
fn operations(document: &str, uri: &Uri) -> Result<Operations, NotUnderstood> {
    let json = HeaderValue::from_static("application/json");
    let fields = HeaderMap::from_iter([(CONTENT_TYPE, json)]);
    let body = serde_json::json!({ "query": document }).to_string();
    Operations::read(&fields, uri.query(), body.as_bytes())
}

/// The references of a push to these branches; `:NAME` is a deletion, as git writes it.
fn pushed(branches: &[String]) -> Result<PushedRefs, ApiError> {
    let refs = PushedRefs::to_branches(branches.iter().map(String::as_str));
    refs.ok_or_else(|| ApiError::field("push", "has text that is not the name of a branch"))
}

fn target(uri: &Uri) -> Result<Target, ApiError> {
    let scheme = match uri.scheme_str() {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        _ => return Err(ApiError::field("url", "must begin with https:// or http://")),
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    Target::parse(scheme, authority).map_err(|error| ApiError::field("url", error.to_string()))
}

fn fields(ask: &ExplainRequest) -> Result<HeaderMap, ApiError> {
    let mut fields = HeaderMap::new();
    for (name, value) in &ask.headers {
        let (name, value) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(ApiError::field("headers", "has an invalid header field"));
        };
        if fields.insert(name, value).is_some() {
            return Err(ApiError::field("headers", "holds a field twice"));
        }
    }
    Ok(fields)
}

fn named(ask: &ExplainRequest, fields: &HeaderMap) -> Option<String> {
    let field = fields.get(KEYWARD_CONNECTION).and_then(|value| value.to_str().ok());
    ask.connection.clone().or_else(|| field.map(|name| name.trim().to_owned()))
}

/// The question that a base URL of this gateway means; `None` for any other URL.
///
/// # Errors
/// 422 when the data path would refuse it before evaluating rules.
pub(super) fn behind(
    admin: &Admin,
    agent: &Agent,
    ask: &ExplainRequest,
) -> Result<Option<ExplainRequest>, ApiError> {
    let Some((scheme, rest)) = own_scheme(admin, &ask.url) else { return Ok(None) };
    let (authority, sent) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !is_listener(admin, scheme, authority) {
        return Ok(None);
    }
    let refused = |fault: &BaseUrlError| {
        let RefusalText { message, hint, .. } = fault.text();
        ApiError::field("url", format!("{message}: {}", hint.unwrap_or_default()))
    };
    let sent = sent.split('#').next().unwrap_or(sent);
    let path = sent.split('?').next().unwrap_or(sent);
    let place = match BaseUrl::read(scheme, Some(authority), path, &base_urls(admin)) {
        // The URL of another server.
        None | Some(Err(BaseUrlError::NotOurs)) => return Ok(None),
        Some(place) => place.map_err(|fault| refused(&fault))?,
    };
    let policy = admin.deps().rulebook.current();
    let (target, connection) =
        base_url::target(&policy, agent, &place).map_err(|fault| refused(&fault))?;
    if ask.connection.as_ref().is_some_and(|other| **other != *connection) {
        return Err(ApiError::field("connection", "the base URL names another connection"));
    }
    let url = format!("{target}{}", place.upstream_path(sent));
    Ok(Some(ExplainRequest { url, connection: Some(connection.to_string()), ..ask.clone() }))
}

/// Splits a URL that may be one of a listener into scheme and rest. If no listener runs, TLS is not assumed.
fn own_scheme<'a>(admin: &Admin, url: &'a str) -> Option<(Scheme, &'a str)> {
    let cleartext = url.strip_prefix("http://").map(|rest| (Scheme::Http, rest));
    cleartext.or_else(|| {
        let rest = url.strip_prefix("https://").filter(|_| admin.locations().is_some())?;
        Some((Scheme::Https, rest))
    })
}

/// Whether one of our listeners has the port; true if none runs.
fn is_listener(admin: &Admin, scheme: Scheme, authority: &str) -> bool {
    let Ok(asked) = Target::parse(scheme, authority) else { return false };
    let ports = |at: &String| at.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    admin
        .locations()
        .is_none_or(|places| places.proxy.iter().filter_map(ports).any(|port| port == asked.port()))
}

fn base_urls(admin: &Admin) -> ServedBaseUrls {
    admin
        .deps()
        .data_path
        .upgrade()
        .map_or_else(ServedBaseUrls::default, |path| path.base_urls.clone())
}

/// The agent as authentication would make it; no decision depends on the token.
pub(super) fn as_agent(record: &AgentRecord) -> Agent {
    let (id, org) = (record.id.clone(), record.org.clone());
    Agent { id, org, name: record.name.as_str().into(), token: None, session: None }
}

/// The same in one of its sessions.
pub(super) fn in_session(
    admin: &Admin,
    record: &AgentRecord,
    session: &str,
) -> Result<Agent, ApiError> {
    let view = admin.deps().directory.view();
    let found = view.find::<Session>(&record.org, session);
    let agent = found.and_then(|session| view.in_session(session));
    let agent = agent.filter(|agent| {
        agent.id == record.id && view.is_still_authenticated(agent, admin.deps().clock.now())
    });
    agent.ok_or_else(|| ApiError::not_found("session", session))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use keyward_rules::inject::placeholder::Placeholder;

    fn ask(url: &str) -> ExplainRequest {
        ExplainRequest { agent: "ci".to_owned(), url: url.to_owned(), ..ExplainRequest::default() }
    }

    #[test]
    fn urls_that_no_request_could_have_are_refused() {
        let bad = [
            "",
            "api.example.com",
            "ftp://api.example.com/",
            "https://",
            "https:///path",
            "https://user@api.example.com/",
            "https://api.example.com:0/",
            "https://api.example.com:port/",
            "https://api.example.com/a/../b",
            "https://0x7f.1/",
        ];
        for url in bad {
            assert!(
                matches!(DescribedRequest::parse(&ask(url)), Err(ApiError::Field { .. })),
                "{url}"
            );
        }
    }

    #[test]
    fn a_url_without_a_path_asks_for_the_root() {
        for url in
            ["https://api.example.com", "HTTPS://api.example.com?q=1", "https://api.example.com/#f"]
        {
            assert_eq!(
                DescribedRequest::parse(&ask(url)).unwrap().query.path.as_str(),
                "/",
                "{url}"
            );
        }
    }

    #[test]
    fn placeholders_are_found_in_url_fields_and_basic_pairs() {
        let placeholder = Placeholder::issue("sk-", None);
        let text = placeholder.as_str();
        let pair = STANDARD.encode(format!("{text}:"));
        let url = format!("https://api.example.com/?key={text}");
        let in_field = |value: String| ExplainRequest {
            headers: [("Authorization".to_owned(), value)].into(),
            ..ask("https://api.example.com/")
        };
        for ask in
            [ask(&url), in_field(format!("Bearer {text}")), in_field(format!("Basic {pair}"))]
        {
            let question = DescribedRequest::parse(&ask).unwrap();
            assert_eq!(question.query.placeholders, [placeholder.core()], "{ask:?}");
        }
    }

    #[test]
    fn the_connection_field_names_the_connection() {
        let named = ExplainRequest {
            headers: [("keyward-connection".to_owned(), "work".to_owned())].into(),
            ..ask("https://api.example.com/")
        };
        assert_eq!(DescribedRequest::parse(&named).unwrap().query.named.as_deref(), Some("work"));
    }
}
