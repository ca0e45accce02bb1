//! Authentication and authorization of API requests: [`Caller`], made for every request before it is routed.
//! Only paths in [`OPEN`], and sign-ins over the network, need none; users have no access to unknown paths.
//!
//! A request with an `Authorization` field is authenticated by that token alone: if it is invalid, the request
//! does not fall back to the rights of its listener.

pub(super) mod login;
pub(super) mod middleware;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request};
use http::request::Parts;
use http::{HeaderMap, Method, header};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::audit_log::ChangeDetails;
use super::error::ApiError;

use super::state::Admin;
use super::wire::CallerView;
use keyward_base::codes::Code;
use keyward_base::id::{OrgId, TokenId, UserId};
use keyward_model::{Area, LinkMaker, MakerCredential, Record, Role, Scope, User};
use keyward_state::crypto::token;
use keyward_state::directory::{AgentRecord, ConnectionRecord, Person, UserCredential, Visibility};
use keyward_state::observe::change::Actor;

/// The field that names an organisation, by name or id.
pub const ORG_FIELD: &str = "keyward-org";

/// The field of requests that the script of an open page sends without an action of its reader. They are no use of the
/// login, so that an open page does not prolong it.
pub const RENEWAL_FIELD: &str = "keyward-renewal";

/// Paths without authentication.
const OPEN: &[&str] = &["/healthz", "/readyz", "/ca.pem", "/ca.crt", "/bundle.pem", DOCUMENT];

/// The path of the OpenAPI document.
pub(super) const DOCUMENT: &str = "/api/v1/openapi.json";

/// The path that answers with the caller.
const CALLER: &str = "/api/v1/caller";

/// The path of the index.
const INDEX: &str = "/api/v1";

/// What a request does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Access {
    /// Changes nothing.
    Read,
    /// Changes nothing, but uses a connection.
    Use,
    /// Changes something.
    Write,
}

#[derive(Clone, Debug)]
enum CallerIdentity {
    /// The operator of the gateway, with access to every organisation.
    Operator,
    /// A user, with access to their own organisation.
    User(Box<Person>),
}

/// The caller of a request: identity, organisation, and what the request does. Handlers get it as an argument;
/// without it they cannot access the directory.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    org: OrgId,
    who: CallerIdentity,
    area: Option<Area>,
    access: Access,
    /// Whether the request is for [`CALLER`], [`INDEX`], [`SESSION`] or the caller's own means of sign-in.
    is_for_everyone: bool,
    /// The address of the client, over the network.
    client: Option<IpAddr>,
    pub(super) details: Arc<Mutex<ChangeDetails>>,
}

impl Caller {
    fn new(org: OrgId, who: CallerIdentity, area: Option<Area>, access: Access) -> Self {
        let details = Arc::default();
        Self { org, who, area, access, is_for_everyone: false, client: None, details }
    }

    fn of(
        admin: &Admin,
        request: &Request,
        without_token: CallerIdentity,
    ) -> Result<Self, ApiError> {
        let view = admin.deps().directory.view();
        let who = match bearer(request.headers())? {
            None => without_token,
            Some(token) => {
                let now = admin.deps().clock.now();
                let known = Some(token).filter(|token| token::is_personal_form(token));
                let person = known.and_then(|token| view.person(token, now));
                let person = person.ok_or(ApiError::Unauthenticated)?;
                if let UserCredential::Token(token) = &person.credential {
                    admin.deps().metrics.usage.count_token(token, now);
                }
                CallerIdentity::User(Box::new(person))
            }
        };
        let named = named_org(request.headers())?;
        let org = match &who {
            CallerIdentity::Operator => named.unwrap_or_else(OrgId::default_org),
            // Another organisation does not exist for them.
            CallerIdentity::User(person) => match named {
                Some(other) if other != person.user.org => {
                    return Err(ApiError::not_found("organisation", other.name()));
                }
                _ => person.user.org.clone(),
            },
        };
        if view.org(&org).is_none() {
            return Err(ApiError::not_found("organisation", org.name()));
        }
        let (area, access) = required(request.method(), request.uri().path());
        let path = request.uri().path();
        let is_for_everyone = path == SESSION
            || is_of_own_sign_in(path)
            || access == Access::Read && [CALLER, INDEX].contains(&path);
        Ok(Self { is_for_everyone, ..Self::new(org, who, area, access) })
    }

    /// The caller on a listener where a token is required.
    ///
    /// # Errors
    /// Without a token, or when it is not valid.
    pub(super) fn with_token(admin: &Admin, request: &Request) -> Result<Self, ApiError> {
        if bearer(request.headers())?.is_none() {
            return Err(ApiError::Unauthenticated);
        }
        Self::of(admin, request, CallerIdentity::Operator)
    }

    /// The same, checked as [`Caller::may`] does.
    ///
    /// # Errors
    /// As there, and when the token does not allow the request.
    pub(super) fn by_token(admin: &Admin, request: &Request) -> Result<Self, ApiError> {
        let caller = Self::with_token(admin, request)?;
        caller.may()?;
        Ok(caller)
    }

    /// The user of a connect session, whose pages carry no token. Their changes are recorded as the user's.
    pub(super) fn of_connect_session(user: Arc<Record<User>>) -> Self {
        let org = user.org.clone();
        let person = Person {
            user,
            credential: UserCredential::Token(TokenId::random()),
            scopes: Arc::new([]),
            ends: None,
            token_ends: None,
        };
        let who = CallerIdentity::User(Box::new(person));
        Self::new(org, who, Some(Area::Connections), Access::Use)
    }

    /// Sets the address of the client.
    pub(super) fn with_client(self, client: IpAddr) -> Self {
        Self { client: Some(client), ..self }
    }

    /// The address of the client, if the request came over the network.
    pub(super) fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// The token or login of the caller; `None` for the operator.
    pub(super) fn credential(&self) -> Option<&UserCredential> {
        match &self.who {
            CallerIdentity::Operator => None,
            CallerIdentity::User(person) => Some(&person.credential),
        }
    }

    /// The caller as the maker of a link; `None` for the operator.
    pub(super) fn link_maker(&self) -> Option<LinkMaker> {
        let CallerIdentity::User(person) = &self.who else { return None };
        let with = match &person.credential {
            UserCredential::Token(id) => MakerCredential::Token(id.clone()),
            UserCredential::Login(id) => MakerCredential::Login(id.clone()),
        };
        Some(LinkMaker { user: person.user.id.clone(), with })
    }

    /// When the token or login of the caller ends; `None`: never.
    pub(super) fn ends(&self) -> Option<Timestamp> {
        match &self.who {
            CallerIdentity::Operator => None,
            CallerIdentity::User(person) => person.ends,
        }
    }

    /// When the token ends that the caller's rights come from: its own, or that of the link of its sign-in. `None`: there is
    /// no such token, or it has no end.
    pub(super) fn token_ends(&self) -> Option<Timestamp> {
        match &self.who {
            CallerIdentity::Operator => None,
            CallerIdentity::User(person) => person.token_ends,
        }
    }

    /// Checks that role and scopes allow the request, regardless of the resource.
    fn may(&self) -> Result<(), ApiError> {
        // Everyone may ask who they are and where the API is, and sign out.
        if self.is_for_everyone { Ok(()) } else { self.has_rights() }
    }

    /// The same, for handlers of paths that are for everyone as far as they concern the caller.
    pub(super) fn has_rights(&self) -> Result<(), ApiError> {
        let CallerIdentity::User(person) = &self.who else { return Ok(()) };
        let area = self.area.ok_or(ApiError::NoSuchPath)?;
        let writes = self.access != Access::Read;
        if !person.scopes.iter().any(|scope| scope.allows(area, writes)) {
            let wanted = match writes {
                true => Scope::WriteArea(area),
                false => Scope::ReadArea(area),
            };
            return Err(ApiError::ScopeMissing(wanted.to_string()));
        }
        match role_allows(person.user.role, area, self.access, &self.org) {
            true => Ok(()),
            false if is_of_all_orgs(area, &self.org) => Err(Code::NotAllowed
                .because("this concerns all organisations: only the operator and users of the first organisation may do it")
                .hint("use the command on the gateway's machine, without a token: there it acts as the operator")
                .into()),
            false => Err(ApiError::RoleRefused(person.user.role.as_str())),
        }
    }

    /// Whether the request changes something.
    pub(super) fn writes(&self) -> bool {
        self.access == Access::Write
    }

    /// The organisation of the request.
    pub(super) fn org(&self) -> &OrgId {
        &self.org
    }

    /// The actor for the audit log.
    pub(super) fn actor(&self) -> Actor {
        match &self.who {
            CallerIdentity::Operator => Actor::Operator,
            CallerIdentity::User(person) => Actor::User {
                id: person.user.id.clone(),
                name: person.user.name.clone(),
                login: match &person.credential {
                    UserCredential::Token(_) => None,
                    UserCredential::Login(id) => Some(id.clone()),
                },
            },
        }
    }

    /// The user; `None` for the operator.
    pub(super) fn user(&self) -> Option<&Arc<Record<User>>> {
        match &self.who {
            CallerIdentity::Operator => None,
            CallerIdentity::User(person) => Some(&person.user),
        }
    }

    /// As the API answers with it.
    pub(super) fn view(&self) -> CallerView {
        let org = self.org.name().to_owned();
        match &self.who {
            CallerIdentity::Operator => CallerView { user: None, role: None, scopes: vec![], org },
            CallerIdentity::User(person) => CallerView {
                user: Some(person.user.name.clone()),
                role: Some(person.user.role.as_str().to_owned()),
                scopes: person.scopes.iter().map(ToString::to_string).collect(),
                org,
            },
        }
    }

    pub(super) fn is_operator(&self) -> bool {
        matches!(self.who, CallerIdentity::Operator)
    }

    /// Whether the caller may see all resources of the organisation.
    pub(super) fn sees_all(&self) -> bool {
        self.user().is_none_or(|user| matches!(user.role, Role::Admin | Role::Auditor))
    }

    /// Whether the caller may read what all organisations share.
    pub(super) fn reads_install(&self) -> bool {
        let CallerIdentity::User(person) = &self.who else { return true };
        let has_scope = person.scopes.iter().any(|scope| scope.allows(Area::Install, false));
        has_scope && role_allows(person.user.role, Area::Install, Access::Read, &self.org)
    }

    /// Whether the caller may change all resources of the organisation.
    pub(super) fn edits_all(&self) -> bool {
        self.user().is_none_or(|user| user.role == Role::Admin)
    }

    /// Refuses callers who may not change all resources of the organisation.
    pub(super) fn must_edit_all(&self) -> Result<(), ApiError> {
        match self.user() {
            Some(user) if !self.edits_all() => Err(ApiError::RoleRefused(user.role.as_str())),
            _ => Ok(()),
        }
    }

    fn owns(&self, owner: Option<&UserId>) -> bool {
        self.user().is_some_and(|user| owner == Some(&user.id))
    }

    /// Whether the caller may see the agent.
    pub(super) fn sees_agent(&self, agent: &AgentRecord) -> bool {
        agent.org == self.org && (self.sees_all() || self.owns(agent.facts.owner.as_ref()))
    }

    /// Whether the caller may see the connection.
    pub(super) fn sees_connection(&self, of: &ConnectionRecord) -> bool {
        let theirs =
            of.facts.visibility == Visibility::Shared || self.owns(of.facts.owner.as_ref());
        of.org == self.org && (self.sees_all() || theirs)
    }

    /// Whether the caller may see the user.
    pub(super) fn sees_user(&self, user: &Record<User>) -> bool {
        user.org == self.org && (self.sees_all() || self.owns(Some(&user.id)))
    }

    /// Refuses to change a connection that the caller may only use.
    pub(super) fn may_change(&self, of: &ConnectionRecord) -> Result<(), ApiError> {
        let changes = self.access == Access::Write && self.area == Some(Area::Connections);
        match !changes || self.edits_all() || self.owns(of.facts.owner.as_ref()) {
            true => Ok(()),
            false => Err(ApiError::NotYours { what: "connection", name: of.name.clone() }),
        }
    }

    /// Whether the caller's token allows this scope.
    pub(super) fn covers(&self, scope: Scope) -> bool {
        let CallerIdentity::User(person) = &self.who else { return true };
        let own = |area, writes| person.scopes.iter().any(|own| own.allows(area, writes));
        let both = Area::ALL.into_iter().flat_map(|area| [(area, false), (area, true)]);
        both.into_iter().all(|(area, writes)| !scope.allows(area, writes) || own(area, writes))
    }

    /// Refuses a personal token, of whichever user, that expires later than the token that the caller's rights come from,
    /// so that a stolen token cannot be prolonged.
    pub(super) fn check_token_expiry(&self, expires: Option<Timestamp>) -> Result<(), ApiError> {
        let Some(end) = self.token_ends() else { return Ok(()) };
        match expires.is_some_and(|expires| expires <= end) {
            true => Ok(()),
            false => {
                let own = match self.credential() {
                    Some(UserCredential::Login(_)) => "the token that made the link of this login",
                    _ => "the token that makes it",
                };
                Err(ApiError::field("ttl", format!("must end no later than {own}, {end:.0}")))
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or(ApiError::Unauthenticated)
    }
}

/// The token of the request, if it has one.
fn bearer(fields: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut given = fields.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| given.next().is_none());
    let (scheme, token) =
        text.and_then(|text| text.split_once(' ')).ok_or(ApiError::Unauthenticated)?;
    match scheme.eq_ignore_ascii_case("bearer") {
        true => Ok(Some(token.trim_start_matches(' '))),
        false => Err(ApiError::Unauthenticated),
    }
}

/// The organisation that the request names, by name or id.
pub(super) fn named_org(fields: &HeaderMap) -> Result<Option<OrgId>, ApiError> {
    let mut given = fields.get_all(ORG_FIELD).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let name = text.strip_prefix("org_").unwrap_or(text);
    match OrgId::named(name) {
        Ok(org) if given.next().is_none() => Ok(Some(org)),
        _ => Err(ApiError::not_found("organisation", text)),
    }
}

/// The area of the API and the kind of access, by method and path. Users have no access to routes that are not
/// listed here.
fn required(method: &Method, path: &str) -> (Option<Area>, Access) {
    let rest = match path {
        // They are of all organisations.
        "/metrics" => "metrics",
        path => path.strip_prefix("/api/v1/").unwrap_or_default(),
    };
    let parts: Vec<&str> = rest.split('/').collect();
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let access = match (reads, parts.as_slice()) {
        (true, _) | (false, ["rules", "explain" | "test"]) => Access::Read,
        // A plan changes nothing, but reads secrets as a reload does: a caller that may reload may plan.
        (false, ["plan"] | ["store", "check"])
        | (false, ["connections", _, "test" | "request"] | ["sources", _, "test"]) => Access::Use,
        _ => Access::Write,
    };
    let area = match parts[0] {
        "connections" | "connect-sessions" | "flows" => Area::Connections,
        "agents" | "runs" | "sessions" | "plugins" | "streams" | "usage" => Area::Agents,
        "apps" | "redirect-uri" | "sources" => Area::Apps,
        "providers" | "status" | "summary" => Area::Providers,
        "ca" if reads => Area::Providers,
        "rules" => Area::Rules,
        "audit" => Area::Audit,
        "users" | "tokens" | "logins" | "login-links" | "session" => Area::Users,
        "orgs" if reads => Area::Users,
        "webhooks" | "events" | "honeytokens" => Area::Webhooks,
        "hooks" if parts.get(2) == Some(&"events") => Area::HookEvents,
        "hooks" | "hook-schemes" => Area::Hooks,
        "backup" | "ca" | "database-listeners" | "export" | "keys" | "metrics" | "orgs"
        | "plan" | "reload" | "replicas" | "store" | "upstreams" => Area::Install,
        _ => return (None, access),
    };
    (Some(area), access)
}

/// Whether the path is a user's means of sign-in, or a login: people of every role change and end their own, and the
/// handlers check that ([`super::means::SignInMethodChange`], [`super::logins`]).
fn is_of_own_sign_in(path: &str) -> bool {
    let rest = path.strip_prefix("/api/v1/").unwrap_or_default();
    let mut parts = rest.split('/');
    let parts = [parts.next(), parts.next(), parts.next(), parts.next()];
    matches!(
        parts,
        [Some("users"), Some(_), Some("password" | "totp" | "passkeys"), None]
            | [Some("session"), Some("passkeys"), _, None]
            | [Some("logins"), Some(_), None, None]
    )
}

/// Whether users may have access to the route: it has an area, or every token may use it.
#[cfg(test)]
pub(super) fn is_covered(method: &Method, path: &str) -> bool {
    [CALLER, SESSION].contains(&path) || required(method, path).0.is_some()
}

/// Whether the area is closed to users of this organisation: what all organisations share is for users of the default one.
fn is_of_all_orgs(area: Area, org: &OrgId) -> bool {
    area == Area::Install && *org != OrgId::default_org()
}

fn role_allows(role: Role, area: Area, access: Access, org: &OrgId) -> bool {
    if is_of_all_orgs(area, org) {
        return false;
    }
    match (role, access) {
        (Role::Admin, _) | (Role::Auditor, Access::Read) => true,
        (Role::Auditor | Role::EndUser, _) => false,
        (Role::Member, Access::Read) => !matches!(
            area,
            Area::Audit | Area::Install | Area::Webhooks | Area::Hooks | Area::HookEvents
        ),
        (Role::Member, _) => matches!(area, Area::Connections | Area::Agents | Area::Users),
    }
}

/// The path of the sign-in.
pub(super) const SESSION: &str = "/api/v1/session";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_no_area_of_rights_covers_is_closed_to_users() {
        for path in
            ["/api/v1/nothing", "/api/v1/", "/api/v2/agents", "/metrics/", "/", "/api/v1//agents"]
        {
            assert_eq!(required(&Method::GET, path).0, None, "{path}");
        }
    }

    #[test]
    fn requests_are_classified_as_read_use_or_write_by_method_and_path() {
        for (method, path, expected) in [
            (Method::GET, "/api/v1/agents", Access::Read),
            (Method::POST, "/api/v1/rules/explain", Access::Read),
            (Method::POST, "/api/v1/rules/test", Access::Read),
            (Method::POST, "/api/v1/rules", Access::Write),
            (Method::POST, "/api/v1/rules/explain/x", Access::Write),
            (Method::POST, "/api/v1/connections/c/test", Access::Use),
            (Method::POST, "/api/v1/plan", Access::Use),
            (Method::POST, "/api/v1/plan/x", Access::Write),
            (Method::POST, "/api/v1/store/check", Access::Use),
            (Method::POST, "/api/v1/store/repair", Access::Write),
            (Method::POST, "/api/v1/connections/c/pause", Access::Write),
            (Method::DELETE, "/api/v1/agents/test", Access::Write),
            (Method::TRACE, "/api/v1/agents", Access::Write),
        ] {
            assert_eq!(required(&method, path).1, expected, "{method} {path}");
        }
    }

    #[test]
    fn only_the_default_organisation_has_rights_on_the_installation() {
        let other = OrgId::named("acme").unwrap();
        for access in [Access::Read, Access::Use, Access::Write] {
            for role in [Role::Admin, Role::Member, Role::Auditor, Role::EndUser] {
                assert!(!role_allows(role, Area::Install, access, &other));
            }
        }
        assert!(role_allows(Role::Admin, Area::Install, Access::Write, &OrgId::default_org()));
        assert!(!role_allows(Role::Member, Area::Install, Access::Read, &OrgId::default_org()));
    }

    #[test]
    fn end_users_may_do_nothing() {
        for area in Area::ALL {
            for access in [Access::Read, Access::Use, Access::Write] {
                assert!(
                    !role_allows(Role::EndUser, area, access, &OrgId::default_org()),
                    "{area:?}"
                );
            }
        }
    }

    #[test]
    fn auditors_write_nothing_and_members_only_connections_agents_and_users() {
        let org = OrgId::default_org();
        let of_members = [Area::Connections, Area::Agents, Area::Users];
        for area in Area::ALL {
            for access in [Access::Use, Access::Write] {
                let allows = |role: Role| role_allows(role, area, access, &org);
                assert!(!allows(Role::Auditor), "{area:?}");
                assert_eq!(allows(Role::Member), of_members.contains(&area), "{area:?} {access:?}");
            }
        }
    }

    #[test]
    fn a_hook_and_its_events_are_separate_areas_of_rights() {
        let area = |path: &str| required(&Method::DELETE, &format!("/api/v1/{path}")).0;
        assert_eq!(area("hooks/ci/events/1"), Some(Area::HookEvents));
        assert_eq!(area("hooks/ci"), Some(Area::Hooks));
        assert_eq!(area("hooks/events"), Some(Area::Hooks), "a hook of this name");
    }

    #[test]
    fn only_one_bearer_token_is_read() {
        let fields = |values: &[&str]| {
            let mut fields = HeaderMap::new();
            for value in values {
                fields.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            fields
        };
        for bad in [&["Basic a"][..], &["Bearer"], &["kwp_x"], &["Bearer a", "Bearer b"], &[""]] {
            assert!(bearer(&fields(bad)).is_err(), "{bad:?}");
        }
        assert_eq!(bearer(&fields(&[])), Ok(None));
        assert_eq!(bearer(&fields(&["bearer kwp_x"])), Ok(Some("kwp_x")));
    }
}
