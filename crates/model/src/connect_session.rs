//! Connect sessions: single-use links by which a person connects an account for a stated user, in a browser. A connect
//! session is a row of its own and is never changed by a request, only ended; its facts follow what the person does.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use keyward_base::id::{AgentId, ConnectSessionId, ConnectionId, FlowId, SessionId, UserId};
use keyward_base::keys::section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name;
use super::reference::Reference;
use super::refusal::{Refusal, failed};
use super::resource::{Kind, NoMembers, Resource};

/// How long a link works: the 30 minutes that a person needs to find a key at the provider.
pub const CONNECT_SESSION_LIFE: SignedDuration = SignedDuration::from_mins(30);

/// How long an ended connect session is kept, so that its result can be read.
pub const CONNECT_SESSION_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Failed attempts after which a link ends, so that it cannot be used to try keys at a provider.
pub const CONNECT_FAILURES_MAX: u32 = 20;

/// Providers that one connect session may name.
const PROVIDERS_MAX: usize = 20;

/// Scopes that one connect session may name.
const SCOPES_MAX: usize = 100;

const RETURN_URL_BYTES_MAX: usize = 2_048;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectSession {}

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct ConnectSessionSpec {
        /// The user who will own the connection. Default: the owner of `connection`, or else the caller.
        #[key("name or id of a user")]
        #[option("user", "USER", "who will own the connection; default: the owner of --connection, or you")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub user: Option<Reference<UserId>>,
        /// The providers to choose from, 1 to 20. Default: all.
        #[key("list of ids of providers")]
        #[option("provider", "PROVIDER", "a provider to choose from; may be given several times; default: all")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub providers: Option<Vec<String>>,
        /// A connection of the user that is connected again, instead of a new one.
        #[key("name or id of a connection")]
        #[option("connection", "NAME", "a connection of the user that is connected again, instead of a new one")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub connection: Option<Reference<ConnectionId>>,
        /// Scopes to request instead of those of the app or the provider; for one provider, or beside those of `connection`.
        #[key("list of text", "[]")]
        #[option("scope", "SCOPE", "a scope to request; may be given several times")]
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub scopes: Vec<String>,
        /// Where the browser goes in the end, with `connect_session` and `code` in its query. Its origin is one of
        /// `connect.return_urls`.
        #[key("URL")]
        #[option("return-url", "URL", "where the browser goes in the end; its origin is in `connect.return_urls`")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub return_url: Option<String>,
        /// Whether the link leads to the provider at once, for a platform with pages of its own: its URL is for a redirect
        /// of the person's browser. The account is connected when the platform exchanges the code. Needs `return_url`, and
        /// one provider or `connection`, with a consent.
        #[key(one of ["true", "false"], "false")]
        #[option("headless", "", "leads to the provider at once, for a platform with pages of its own")]
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub headless: bool,
        /// The auth method of a headless consent. Default: the first one with a consent.
        #[key("id of an auth method")]
        #[option("auth", "METHOD", "the auth method of a headless consent")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub auth: Option<String>,
        /// Values of the provider's host variables, for a headless consent.
        #[key("map of names to text", "{}")]
        #[option("var", "KEY=VALUE", "a value of a host variable, for a headless consent")]
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub variables: BTreeMap<String, String>,
        /// What the link is for, in lists and the audit log. 1 to 64 bytes.
        #[key("text")]
        #[option("label", "LABEL", "what it is for")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub label: Option<String>,
    }
}

/// What the gateway adds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ConnectSessionFacts {
    /// SHA-256 of the link's token, hex.
    pub hash: String,
    /// When the link ends.
    pub expires: Timestamp,
    /// The browser that opened the link; `None`: it was not opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<BoundBrowser>,
    /// The consent in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowId>,
    /// The connection that it made and that is not connected yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<ConnectionId>,
    /// The connection that was connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<Connected>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How many attempts failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// Whether the code of the return URL was exchanged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exchanged: bool,
    /// The refusal that the gateway made it for; `None`: a user or a platform made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_refusal: Option<RefusedCall>,
}

/// The request whose refusal has the link.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RefusedCall {
    /// The agent's id.
    pub agent: AgentId,
    /// The session that the agent acted in.
    pub session: SessionId,
}

/// The browser that opened a link.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BoundBrowser {
    /// SHA-256 of its cookie, hex.
    pub hash: String,
    /// SHA-256 of the code that it takes to the return URL, hex.
    pub code: String,
    /// When it opened the link.
    pub at: Timestamp,
    /// SHA-256 of the mark of the page whose button was pressed, hex; `None`: the request had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
}

/// A connection that a connect session connected.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Connected {
    /// The connection's id.
    #[schemars(with = "String")]
    pub id: ConnectionId,
    /// Its name.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// When it was connected.
    pub at: Timestamp,
}

/// The state of a connect session.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectSessionState {
    /// The link was not opened.
    Open,
    /// A browser opened the link.
    Opened,
    /// The account is connected.
    Completed,
    /// The last attempt failed. The person may try again until the link expires.
    Failed,
    /// The link has expired.
    Expired,
}

/// What is shown of it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ConnectSessionShown {
    /// The name of its user.
    pub user_name: String,
    /// How far it is.
    pub state: ConnectSessionState,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The connection that was connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<Connected>,
    /// The refusal that the gateway made the link for; absent where a user or a platform made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_refusal: Option<RefusedCall>,
    /// When the link ends.
    pub expires: Timestamp,
}

/// A new connect session as the API answers with it: its URL is shown once.
#[derive(Clone, Deserialize, JsonSchema, Serialize)]
pub struct ConnectSessionIssued {
    /// The connect session.
    #[serde(flatten)]
    pub session: super::resource::Shown<ConnectSession>,
    /// The link, for the person alone. It works once.
    pub url: String,
}

impl std::fmt::Debug for ConnectSessionIssued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectSessionIssued")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl Resource for ConnectSession {
    type Id = ConnectSessionId;
    type Spec = ConnectSessionSpec;
    type CreateOptions = NoMembers;
    type ChangeOptions = NoMembers;
    type Facts = ConnectSessionFacts;
    type Shown = ConnectSessionShown;

    /// How many there may be is a setting: `limits.connect_sessions_max`.
    const KIND: Kind = Kind {
        one: "connect session",
        article: "a connect session",
        many: "connect-sessions",
        max: usize::MAX,
    };
    const DECLARABLE: bool = false;

    /// Its label. Labels are not unique: a connect session is found by its id alone.
    fn name(spec: &ConnectSessionSpec) -> &str {
        spec.label.as_deref().unwrap_or_default()
    }

    fn refusals(spec: &ConnectSessionSpec) -> Vec<Refusal> {
        let providers = spec.providers.as_deref();
        let count = providers.is_none_or(|all| (1..=PROVIDERS_MAX).contains(&all.len()));
        let one_of = spec.providers.is_none() || spec.connection.is_none();
        let is_single = spec.connection.is_some() || providers.is_some_and(|all| all.len() == 1);
        let scopes = spec.scopes.is_empty() || is_single;
        let scope = |text: &String| {
            !text.is_empty() && text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic())
        };
        let are_scopes = spec.scopes.len() <= SCOPES_MAX && spec.scopes.iter().all(scope);
        let label = spec.label.as_deref().is_none_or(name::is_label);
        let is_headless = |given: bool| spec.headless || !given;
        let auth = is_headless(spec.auth.is_some());
        let variables = is_headless(!spec.variables.is_empty());
        let is_of_new =
            spec.connection.is_none() || spec.auth.is_none() && spec.variables.is_empty();
        let returns = !spec.headless || spec.return_url.is_some();
        let url = spec.return_url.as_deref().map_or(Ok(()), check_return_url);
        failed([
            Refusal::unless(count, "providers", "must name 1 to 20 providers"),
            Refusal::unless(one_of, "connection", "must not be given together with `providers`"),
            Refusal::unless(scopes, "scopes", "must not be given for several providers"),
            Refusal::unless(are_scopes, "scopes", "must be up to 100 texts without blanks"),
            url,
            Refusal::unless(returns, "return_url", "is required with `headless`"),
            Refusal::unless(
                !spec.headless || is_single,
                "providers",
                "must name one with `headless`",
            ),
            Refusal::unless(auth, "auth", "must be given with `headless` only"),
            Refusal::unless(variables, "variables", "must be given with `headless` only"),
            Refusal::unless(is_of_new, "connection", "has its own `auth` and `variables`"),
            Refusal::unless(label, "label", "must be 1 to 64 printable bytes"),
        ])
    }
}

impl ConnectSessionFacts {
    /// Of a new link.
    pub fn new(hash: String, expires: Timestamp) -> Self {
        Self { hash, expires, ..Self::default() }
    }

    /// How far it is.
    pub fn state(&self, now: Timestamp) -> ConnectSessionState {
        match (&self.connected, &self.failure, &self.browser) {
            (Some(_), ..) => ConnectSessionState::Completed,
            _ if now >= self.expires => ConnectSessionState::Expired,
            (_, Some(_), _) => ConnectSessionState::Failed,
            (_, _, Some(_)) => ConnectSessionState::Opened,
            _ => ConnectSessionState::Open,
        }
    }

    /// Whether the button of this page binds a browser: no browser is bound, or that of the same page, which has done
    /// nothing yet. A second click discards the answer to the first one, and its cookie.
    pub fn opens_for(&self, page: Option<&str>) -> bool {
        let Some(browser) = &self.browser else { return true };
        let is_unused = self.flow.is_none() && self.draft.is_none() && self.connected.is_none();
        page.is_some() && browser.page.as_deref() == page && is_unused && self.failures == 0
    }

    /// Whether an account can still be connected.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.connected.is_none() && now < self.expires && self.failures < CONNECT_FAILURES_MAX
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// `https`, or `http` to this machine; no fragment, which would follow the code, and no user information.
fn check_return_url(url: &str) -> Result<(), Refusal> {
    let is_foreign = |c: &char| !c.is_ascii_graphic() || matches!(c, '\\' | '"' | '<' | '>');
    if let Some(foreign) = url.chars().find(is_foreign) {
        let rule = format!("must not contain the character `{}`", foreign.escape_debug());
        let hint = "write it percent-encoded, in a host name as an A-label (`xn--…`)";
        return Err(Refusal::new("return_url", rule).hint(hint));
    }
    if url.len() > RETURN_URL_BYTES_MAX {
        let rule = format!("must not be longer than {RETURN_URL_BYTES_MAX} bytes");
        return Err(Refusal::new("return_url", rule));
    }
    let is_url = !url.contains('#') && origin_of(url).is_some();
    Refusal::unless(is_url, "return_url", "must be an `https://` URL without a fragment")
        .map_err(|refusal| refusal.hint("`http://` is accepted for localhost"))
}

/// Scheme, host and port of a URL, in lower case and without the default port; `None` if it is no `https` URL, nor an
/// `http` URL of this machine.
pub fn origin_of(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let authority = rest.split(['/', '?', '#']).next().filter(|it| !it.is_empty())?;
    let is_plain =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    let authority = Some(authority.to_ascii_lowercase()).filter(|it| it.bytes().all(is_plain))?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port.parse::<u16>().ok()?)),
        _ => (&*authority, None),
    };
    let default = match &*scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let is_local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    if host.is_empty() || (scheme == "http" && !is_local) {
        return None;
    }
    Some(match port.filter(|port| *port != default) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(json: serde_json::Value) -> Vec<String> {
        let spec = serde_json::from_value(json).unwrap();
        ConnectSession::refusals(&spec).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_connect_session_with_invalid_or_conflicting_members_is_refused_by_field() {
        for (bad, field) in [
            (json!({"providers": []}), "`providers`"),
            (json!({"providers": vec!["p"; 21]}), "`providers`"),
            (json!({"providers": ["p"], "connection": "c"}), "`connection`"),
            (json!({"providers": ["p", "q"], "scopes": ["s"]}), "`scopes`"),
            (json!({"scopes": ["s"]}), "`scopes`"),
            (json!({"providers": ["p"], "scopes": ["a b"]}), "`scopes`"),
            (json!({"label": ""}), "`label`"),
            (json!({"headless": true, "providers": ["p"]}), "`return_url`"),
            (json!({"headless": true, "return_url": "https://a.test/"}), "`providers`"),
            (json!({"providers": ["p"], "auth": "oauth"}), "`auth`"),
            (json!({"providers": ["p"], "variables": {"shop": "s"}}), "`variables`"),
            (
                json!({"headless": true, "connection": "c", "auth": "o", "return_url": "https://a.test/"}),
                "`connection`",
            ),
            (json!({"return_url": "http://app.acme.test/"}), "`return_url`"),
        ] {
            let found = refused(bad);
            assert!(found.len() == 1 && found[0].starts_with(field), "{found:?}");
        }
        assert!(
            refused(json!({"user": "auth0|1", "return_url": "https://a.test/x?y=1"})).is_empty()
        );
        assert!(refused(json!({"connection": "c", "scopes": ["read"]})).is_empty());
        let url = "https://a.test/";
        let headless = json!({"headless": true, "providers": ["p"], "return_url": url, "auth": "o",
                              "variables": {"shop": "s"}});
        assert!(refused(headless).is_empty());
    }

    #[test]
    fn only_https_and_local_http_urls_have_an_origin() {
        for bad in [
            "javascript:alert(1)",
            "https://",
            "https:///path",
            "https://user@a.test/",
            "https://a.test:x/",
            "http://a.test/",
            "http://localhost.a.test/",
            "//a.test",
            "https://a.test\\@b.test/",
        ] {
            assert_eq!(origin_of(bad), None, "{bad}");
        }
        for bad in
            ["https://a.test/#x", "https://a.test/ x", "https://a.test/\"", "https://a.test/\n"]
        {
            assert!(check_return_url(bad).is_err(), "{bad}");
        }
        for (bad, named) in [
            ("https://a.test/caf\u{e9}", "`\u{e9}`"),
            ("https://b\u{fc}cher.test/", "`\u{fc}`"),
            ("https://a.test/\u{202e}", "`\\u{202e}`"),
        ] {
            let refused = check_return_url(bad).unwrap_err();
            assert!(refused.rule.ends_with(named), "{bad}: {refused}");
            assert!(refused.hint.is_some_and(|hint| hint.contains("percent-encoded")), "{bad}");
        }
        let long = format!("https://a.test/{}", "x".repeat(RETURN_URL_BYTES_MAX));
        assert_eq!(check_return_url(&long).unwrap_err().rule, "must not be longer than 2048 bytes");
        for (url, origin) in [
            ("https://A.test", "https://a.test"),
            ("https://a.test:443/x?y", "https://a.test"),
            ("https://a.test:8443?x", "https://a.test:8443"),
            ("http://localhost:3000/done", "http://localhost:3000"),
            ("http://[::1]:80/", "http://[::1]"),
        ] {
            assert_eq!(origin_of(url).as_deref(), Some(origin));
        }
    }

    #[test]
    fn the_state_follows_the_facts() {
        let (before, end, after) =
            (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap(), Timestamp::MAX);
        let mut facts = ConnectSessionFacts::new(String::new(), end);
        assert_eq!(facts.state(before), ConnectSessionState::Open);
        assert!(facts.is_live(before) && !facts.is_live(end) && !facts.is_live(after));
        let (hash, code) = ("h".into(), "c".into());
        facts.browser = Some(BoundBrowser { hash, code, at: before, page: None });
        assert_eq!(facts.state(before), ConnectSessionState::Opened);
        (facts.failure, facts.failures) = (Some("declined".into()), 1);
        assert_eq!(facts.state(before), ConnectSessionState::Failed);
        assert_eq!(facts.state(after), ConnectSessionState::Expired);
        facts.failures = CONNECT_FAILURES_MAX;
        assert!(!facts.is_live(before), "a link is no way to try keys");
        let (name, provider) = ("work".to_owned(), "p".to_owned());
        facts.connected =
            Some(Connected { id: ConnectionId::random(), name, provider, at: before });
        assert_eq!(facts.state(after), ConnectSessionState::Completed);
    }

    #[test]
    fn only_the_page_that_bound_a_browser_binds_it_again_and_only_before_its_first_step() {
        let at = Timestamp::UNIX_EPOCH;
        let bound = |page: Option<&str>| {
            let (hash, code, page) = ("h".into(), "c".into(), page.map(str::to_owned));
            let mut facts = ConnectSessionFacts::new(String::new(), Timestamp::MAX);
            facts.browser = Some(BoundBrowser { hash, code, at, page });
            facts
        };
        let new = ConnectSessionFacts::new(String::new(), Timestamp::MAX);
        assert!(new.opens_for(None) && new.opens_for(Some("one")));
        let mut facts = bound(Some("one"));
        assert!(facts.opens_for(Some("one")));
        assert!(!facts.opens_for(Some("other")) && !facts.opens_for(None));
        assert!(!bound(None).opens_for(None), "no page is not the same page");
        facts.flow = Some(FlowId::random());
        assert!(!facts.opens_for(Some("one")));
    }
}
