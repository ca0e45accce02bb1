//! Who calls, and what they may: [`Caller`], made once for every request before it is routed. What
//! is not named in [`OPEN`] needs one, and an unknown path is closed to users.
//!
//! A request with an `Authorization` field is that token's or nobody's: it never falls back to what
//! the door itself would allow.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, Method, header};
use jiff::Timestamp;
use parking_lot::Mutex;

use super::error::ApiError;
use super::ledger::Ledger;
use super::state::Admin;
use keyward_base::codes::Code;
use keyward_base::id::{OrgId, UserId};
use keyward_state::crypto::token;
use keyward_state::directory::{
    AgentRecord, Area, ConnectionRecord, Person, Role, Scope, UserRecord, View, Visibility,
};
use keyward_state::observe::change::{Acting, Actor};

/// The field that names an organisation, by name or id.
pub const ORG_FIELD: &str = "keyward-org";

/// Open to whoever reaches a door.
const OPEN: &[&str] = &["/healthz", "/readyz", "/ca.pem", "/bundle.pem"];

/// What a request does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Access {
    /// Changes nothing.
    Read,
    /// Changes nothing either, but acts with somebody's account.
    Use,
    /// Changes something.
    Write,
}

/// Who calls.
#[derive(Clone, Debug)]
enum Who {
    /// Who runs the gateway: every organisation.
    Operator,
    /// A person, in their own.
    User(Box<Person>),
}

/// Who calls, in which organisation, to do what. Handlers get it as an argument; nothing of the
/// directory is reached without one.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    org: OrgId,
    who: Who,
    area: Option<Area>,
    access: Access,
    pub(super) ledger: Arc<Mutex<Ledger>>,
}

/// Makes the caller of a request on the socket, whose peer is the operator unless a token says
/// otherwise, and writes down what it changes.
pub(super) async fn on_socket(
    State(admin): State<Admin>,
    mut request: Request,
    next: Next,
) -> Response {
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let caller = match Caller::of(&admin, &request, Who::Operator) {
        Ok(caller) => caller,
        Err(refusal) => return refusal.into_response(),
    };
    let allowed = caller.may();
    if caller.access != Access::Write {
        return match allowed {
            Ok(()) => {
                let actor = caller.actor();
                request.extensions_mut().insert(caller);
                actor.acting(next.run(request)).await
            }
            Err(refusal) => refusal.into_response(),
        };
    }
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let entry = match Ledger::begin(&admin, &caller, (&method, &path)).await {
        Ok(entry) => entry,
        Err(refusal) => return refusal.into_response(),
    };
    let response = match allowed {
        Ok(()) => {
            let acting = Acting { by: caller.actor(), recorded: true };
            request.extensions_mut().insert(caller);
            acting.scope(next.run(request)).await
        }
        Err(refusal) => refusal.into_response(),
    };
    let code = response.extensions().get::<Code>().copied();
    entry.ended(response.status(), code);
    response
}

/// The operator, where only the files of the audit log are read: no organisation is known there.
pub(super) async fn without_store(mut request: Request, next: Next) -> Response {
    let fields = request.headers();
    let org = match named_org(fields) {
        _ if fields.contains_key(header::AUTHORIZATION) => Err(ApiError::Unauthenticated),
        Ok(org) => Ok(org.unwrap_or_else(OrgId::default_org)),
        Err(refusal) => Err(refusal),
    };
    match org {
        Ok(org) => {
            let caller = Caller::new(org, Who::Operator, (Some(Area::Audit), Access::Read));
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

impl Caller {
    fn new(org: OrgId, who: Who, (area, access): (Option<Area>, Access)) -> Self {
        Self { org, who, area, access, ledger: Arc::default() }
    }

    fn of(admin: &Admin, request: &Request, without_token: Who) -> Result<Self, ApiError> {
        let view = admin.deps().directory.view();
        let who = match bearer(request.headers())? {
            None => without_token,
            Some(token) => {
                let now = admin.deps().clock.now();
                let known = Some(token).filter(|token| token::is_personal_form(token));
                let person = known.and_then(|token| view.person(token, now));
                let person = person.ok_or(ApiError::Unauthenticated)?;
                admin.deps().metrics.usage.count_token(&person.token, now);
                Who::User(Box::new(person))
            }
        };
        let named = named_org(request.headers())?;
        let org = match &who {
            Who::Operator => named.unwrap_or_else(OrgId::default_org),
            // Another one does not exist for them.
            Who::User(person) => match named {
                Some(other) if other != person.user.org => {
                    return Err(ApiError::not_found("organisation", other.name()));
                }
                _ => person.user.org.clone(),
            },
        };
        if view.org(&org).is_none() {
            return Err(ApiError::not_found("organisation", org.name()));
        }
        Ok(Self::new(org, who, asked(request.method(), request.uri().path())))
    }

    /// Whether role and scopes allow what the request does, wherever it goes.
    fn may(&self) -> Result<(), ApiError> {
        let Who::User(person) = &self.who else { return Ok(()) };
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
            false => Err(ApiError::RoleRefused(person.user.role.as_str())),
        }
    }

    /// Whether the request changes something.
    pub(super) fn writes(&self) -> bool {
        self.access == Access::Write
    }

    /// Whose data is answered.
    pub(super) fn org(&self) -> &OrgId {
        &self.org
    }

    /// For the audit log.
    pub(super) fn actor(&self) -> Actor {
        match &self.who {
            Who::Operator => Actor::Operator,
            Who::User(person) => {
                Actor::User { id: person.user.id.clone(), name: person.user.name.clone() }
            }
        }
    }

    /// The person; `None`: the operator.
    pub(super) fn user(&self) -> Option<&Arc<UserRecord>> {
        match &self.who {
            Who::Operator => None,
            Who::User(person) => Some(&person.user),
        }
    }

    /// Whether it is who runs the gateway.
    pub(super) fn is_operator(&self) -> bool {
        matches!(self.who, Who::Operator)
    }

    /// Whether everything of the organisation is theirs to see.
    pub(super) fn sees_all(&self) -> bool {
        self.user().is_none_or(|user| user.role != Role::Member)
    }

    /// Whether everything of the organisation is theirs to change.
    pub(super) fn edits_all(&self) -> bool {
        self.user().is_none_or(|user| user.role == Role::Admin)
    }

    fn owns(&self, owner: Option<&UserId>) -> bool {
        self.user().is_some_and(|user| owner == Some(&user.id))
    }

    /// Whether the agent exists for them.
    pub(super) fn sees_agent(&self, agent: &AgentRecord) -> bool {
        agent.org == self.org && (self.sees_all() || self.owns(agent.facts.owner.as_ref()))
    }

    /// Whether the connection exists for them.
    pub(super) fn sees_connection(&self, of: &ConnectionRecord) -> bool {
        let theirs = of.visibility == Visibility::Shared || self.owns(of.owner.as_ref());
        of.org == self.org && (self.sees_all() || theirs)
    }

    /// Whether the user exists for them.
    pub(super) fn sees_user(&self, user: &UserRecord) -> bool {
        user.org == self.org && (self.sees_all() || self.owns(Some(&user.id)))
    }

    /// Refuses to change a connection that is only theirs to use.
    pub(super) fn may_change(&self, of: &ConnectionRecord) -> Result<(), ApiError> {
        let changes = self.access == Access::Write && self.area == Some(Area::Connections);
        match !changes || self.edits_all() || self.owns(of.owner.as_ref()) {
            true => Ok(()),
            false => Err(ApiError::NotYours { what: "connection", name: of.name.clone() }),
        }
    }

    /// Whether a token that allows this would allow no more than the caller's own.
    pub(super) fn covers(&self, scope: Scope) -> bool {
        let Who::User(person) = &self.who else { return true };
        let own = |area, writes| person.scopes.iter().any(|own| own.allows(area, writes));
        let both = Area::ALL.into_iter().flat_map(|area| [(area, false), (area, true)]);
        both.into_iter().all(|(area, writes)| !scope.allows(area, writes) || own(area, writes))
    }

    /// Refuses a token of one's own that would live longer than the one it is made with: what was
    /// stolen for a day is not kept for ever.
    pub(super) fn outlives(
        &self,
        user: &UserRecord,
        expires: Option<Timestamp>,
    ) -> Result<(), ApiError> {
        let Who::User(person) = &self.who else { return Ok(()) };
        let own = user.tokens.iter().find(|token| token.id == person.token);
        let Some(end) = own.and_then(|token| token.expires) else { return Ok(()) };
        match expires.is_some_and(|expires| expires <= end) {
            true => Ok(()),
            false => {
                let message = "must end no later than the token that makes it, ".to_owned();
                Err(ApiError::field("ttl", format!("{message}{end}")))
            }
        }
    }

    /// Whether what let the caller in still does: asked of answers that go on.
    pub(super) fn still_holds(&self, view: &View, now: Timestamp) -> bool {
        let Who::User(person) = &self.who else { return view.org(&self.org).is_some() };
        view.user(&self.org, &person.user.id).is_some_and(|user| {
            let live = user.tokens.iter().find(|token| token.id == person.token);
            !user.paused && user.role == person.user.role && live.is_some_and(|it| it.is_live(now))
        })
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or(ApiError::Unauthenticated)
    }
}

/// The token that a request names; `None` when it names none.
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

/// The organisation that a request names, by name or id.
fn named_org(fields: &HeaderMap) -> Result<Option<OrgId>, ApiError> {
    let mut given = fields.get_all(ORG_FIELD).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let name = text.strip_prefix("org_").unwrap_or(text);
    match OrgId::named(name) {
        Ok(org) if given.next().is_none() => Ok(Some(org)),
        _ => Err(ApiError::not_found("organisation", text)),
    }
}

/// Which part of the API a request is for, and what it does there. By its path, so that a route that
/// is added and not named here is closed to users.
fn asked(method: &Method, path: &str) -> (Option<Area>, Access) {
    let rest = path.strip_prefix("/api/v1/").unwrap_or_default();
    let parts: Vec<&str> = rest.split('/').collect();
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let access = match (reads, parts.as_slice()) {
        (true, _) | (false, ["rules", "explain" | "test"]) => Access::Read,
        // A plan changes nothing, but reads secrets as a reload does: it is for whoever may reload.
        (false, ["plan"] | ["connections", _, "test" | "request"]) => Access::Use,
        _ => Access::Write,
    };
    let area = match parts[0] {
        "connections" | "flows" => Area::Connections,
        "agents" | "runs" | "probes" | "plugins" => Area::Agents,
        "apps" => Area::Apps,
        "providers" | "status" => Area::Providers,
        "ca" if reads => Area::Providers,
        "rules" => Area::Rules,
        "audit" => Area::Audit,
        "users" | "tokens" => Area::Users,
        "orgs" if reads => Area::Users,
        "webhooks" | "events" | "honeytokens" => Area::Webhooks,
        "ca" | "keys" | "orgs" | "plan" | "reload" | "upstreams" => Area::Install,
        _ => return (None, access),
    };
    (Some(area), access)
}

fn role_allows(role: Role, area: Area, access: Access, org: &OrgId) -> bool {
    // What all organisations share is for those of the install's own.
    if area == Area::Install && *org != OrgId::default_org() {
        return false;
    }
    match (role, access) {
        (Role::Admin, _) | (Role::Auditor, Access::Read) => true,
        (Role::Auditor, _) => false,
        (Role::Member, Access::Read) => {
            !matches!(area, Area::Audit | Area::Install | Area::Webhooks)
        }
        (Role::Member, _) => matches!(area, Area::Connections | Area::Agents | Area::Users),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_named_is_closed_to_users() {
        for path in
            ["/api/v1/nothing", "/api/v1/", "/api/v2/agents", "/metrics", "/", "/api/v1//agents"]
        {
            assert_eq!(asked(&Method::GET, path).0, None, "{path}");
        }
    }

    #[test]
    fn what_changes_nothing_is_told_from_what_does() {
        for (method, path, expected) in [
            (Method::GET, "/api/v1/agents", Access::Read),
            (Method::POST, "/api/v1/rules/explain", Access::Read),
            (Method::POST, "/api/v1/rules/test", Access::Read),
            (Method::POST, "/api/v1/rules", Access::Write),
            (Method::POST, "/api/v1/rules/explain/x", Access::Write),
            (Method::POST, "/api/v1/connections/c/test", Access::Use),
            (Method::POST, "/api/v1/plan", Access::Use),
            (Method::POST, "/api/v1/plan/x", Access::Write),
            (Method::POST, "/api/v1/connections/c/pause", Access::Write),
            (Method::DELETE, "/api/v1/agents/test", Access::Write),
            (Method::TRACE, "/api/v1/agents", Access::Write),
        ] {
            assert_eq!(asked(&method, path).1, expected, "{method} {path}");
        }
    }

    #[test]
    fn the_install_belongs_to_the_default_organisation() {
        let other = OrgId::named("acme").unwrap();
        for access in [Access::Read, Access::Use, Access::Write] {
            for role in [Role::Admin, Role::Member, Role::Auditor] {
                assert!(!role_allows(role, Area::Install, access, &other));
            }
        }
        assert!(role_allows(Role::Admin, Area::Install, Access::Write, &OrgId::default_org()));
        assert!(!role_allows(Role::Member, Area::Install, Access::Read, &OrgId::default_org()));
    }

    #[test]
    fn auditors_and_members_write_only_what_is_theirs() {
        let org = OrgId::default_org();
        for area in Area::ALL {
            for access in [Access::Use, Access::Write] {
                assert!(!role_allows(Role::Auditor, area, access, &org), "{area:?}");
            }
        }
        for area in
            [Area::Apps, Area::Providers, Area::Rules, Area::Audit, Area::Webhooks, Area::Install]
        {
            assert!(!role_allows(Role::Member, area, Access::Write, &org), "{area:?}");
        }
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
