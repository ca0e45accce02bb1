//! `/connect-sessions`: links by which a person connects an account for a stated user, in a browser. `walk.rs` has what the
//! pages of a link do, `attempt.rs` an attempt to connect, `offers.rs` what can be connected, `for_end_users.rs` links
//! in refusals.

mod attempt;
mod browser;
mod for_end_users;
mod form;
mod offers;
pub mod walk;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use schemars::JsonSchema;
use serde::Deserialize;

use self::attempt::ConnectAttempt;
use self::offers::Offers;
use super::agents::sessions::found;
use super::auth::Caller;
use super::body::{Body, Params, Segments};
use super::connections::flows::takes_consents;
use super::context::Context;
use super::error::ApiError;
use super::input::Input;
use super::openapi::Routes;
use super::page::Page;
use super::resource::{self, Exposed};
use super::state::{Admin, Deps};
use super::tokens::text_of;
use super::wire::{List, ProviderView};
use keyward_base::secret::Secret;
use keyward_model::{
    ConnectSession, ConnectSessionIssued, ConnectSessionShown, ConnectSessionSpec, Record,
    Reference, Resource, SecretFields, SecretText, Shown, User, origin_of,
};
use keyward_state::directory::NewConnectSession;
use keyward_vault::oauth::FlowState;

pub use self::browser::PageMark;
pub(super) use self::browser::PendingConsent;
pub use self::for_end_users::make_links;
pub use self::form::{EnteredValues, FIELD, FormProblem, VARIABLE};
pub use self::offers::ConnectOffer;
pub use self::walk::{ConnectPage, ConnectRefusal, ConnectStep, PageContent};

/// What a platform's own page sends in place of a form of a link.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Completion {
    /// The provider; default: the only one.
    #[serde(default)]
    provider: Option<String>,
    /// An auth method of the provider; default: the first one that can be used.
    #[serde(default)]
    auth: Option<String>,
    /// Values of the provider's host variables.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// What the auth method requires.
    #[serde(default)]
    fields: SecretFields,
}

/// The code that a browser brought to the return URL.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReturnCode {
    /// `code` of the query.
    code: SecretText,
    /// In a headless connect session: whether an account other than that of the connection is used.
    #[serde(default)]
    other_account: bool,
}

pub(super) fn routes() -> Routes {
    Routes::new()
        .get(
            "/connect-sessions",
            ["listConnectSessions", "List connect sessions"],
            resource::list::<ConnectSession>,
        )
        .post(
            "/connect-sessions",
            ["addConnectSession", "Make a link by which a person connects an account"],
            resource::add::<ConnectSession>,
        )
        .get(
            "/connect-sessions/{connect_session}",
            ["getConnectSession", "Show a connect session"],
            show,
        )
        .delete(
            "/connect-sessions/{connect_session}",
            ["endConnectSession", "End a connect session and its link"],
            resource::remove::<ConnectSession>,
        )
        .get(
            "/connect-sessions/{connect_session}/providers",
            ["listConnectSessionProviders", "List what can be connected in a connect session"],
            providers,
        )
        .post(
            "/connect-sessions/{connect_session}/complete",
            ["completeConnectSession", "Complete a connect session with a key"],
            complete,
        )
        .post(
            "/connect-sessions/{connect_session}/exchange",
            ["exchangeConnectSession", "Exchange the code that a browser brought back, once"],
            exchange,
        )
}

impl Exposed for ConnectSession {
    type Added = ConnectSessionIssued;

    fn texts<'a>(context: &'a Context, session: &'a Record<Self>) -> Vec<Cow<'a, str>> {
        let view = context.view();
        let user = view.connecting_user(session);
        user.map(|user| Cow::<str>::Owned(user.name.clone())).into_iter().collect()
    }

    /// Labels are not unique.
    fn cursor(session: &Record<Self>) -> &str {
        session.id.as_str()
    }

    fn sees(context: &Context, session: &Record<Self>) -> bool {
        let caller = &context.caller;
        let of = session.user.as_ref().and_then(Reference::id);
        caller.sees_all() || caller.user().is_some_and(|user| of == Some(&user.id))
    }

    fn resolve(context: &Context, spec: &mut ConnectSessionSpec) -> Result<(), ApiError> {
        let Context { admin, caller } = context;
        takes_consents(admin)?;
        Self::check(spec)?;
        let mut owner = None;
        if let Some(named) = &mut spec.connection {
            let connection = context.connection_to_use(named.as_str());
            let connection = connection.map_err(|error| error.in_field("connection"))?;
            owner.clone_from(&connection.facts.owner);
            *named = Reference::Id(connection.id.clone());
        }
        spec.user = Some(match &spec.user {
            Some(named) => found::<User>(context, "user", named)?,
            None => {
                let own = || caller.user().map(|user| user.id.clone());
                let user = owner.or_else(own);
                Reference::Id(user.ok_or_else(no_user)?)
            }
        });
        for_others(caller, spec)?;
        returns(admin, spec)?;
        Offers::check(admin, caller.org(), spec)
    }

    async fn shown_facts(context: &Context, session: &Record<Self>) -> ConnectSessionShown {
        let view = context.view();
        let user = session.user.as_ref().and_then(Reference::id);
        let user = user.and_then(|id| view.one::<User>(&session.org, id));
        let facts = &session.facts;
        ConnectSessionShown {
            user_name: user.map_or_else(String::new, |user| user.name.clone()),
            state: facts.state(context.deps().clock.now()),
            reason: facts.failure.clone(),
            connected: facts.connected.clone(),
            for_refusal: facts.for_refusal.clone(),
            expires: facts.expires,
        }
    }

    async fn add(context: &Context, input: Input<Self>) -> Result<ConnectSessionIssued, ApiError> {
        let Context { admin, caller } = context;
        let deps = admin.deps();
        let max = deps.limits.connect_sessions_max;
        let made = deps.directory.add_connect_session(caller.org(), input.spec, max, None).await;
        let NewConnectSession { session, token } = made?;
        let shown = resource::shown(context, &session).await;
        caller.record_changed(Self::KIND.one, &session.id, session.name());
        caller.because(format!("for user {}", shown.facts.user_name));
        let url = link(deps, &token)?;
        Ok(ConnectSessionIssued { url, session: shown })
    }

    async fn removed(context: &Context, session: &Record<Self>) -> Result<(), ApiError> {
        // A consent that is being finished loses its draft with the connection.
        context.deps().flows.remove_leftovers(session).await?;
        context.admin.enforce().await
    }

    fn may_write(context: &Context, session: Option<&Record<Self>>) -> Result<(), ApiError> {
        session.map_or(Ok(()), |session| for_others(&context.caller, &session.spec))
    }
}

/// The URL for the person, which contains the token.
fn link(deps: &Deps, token: &Secret) -> Result<String, ApiError> {
    Ok(format!("{}/connect/{}", deps.public_url, text_of(token)?))
}

/// The operator is no user, so a connection of theirs would have no owner.
fn no_user() -> ApiError {
    ApiError::field("user", "is missing")
        .hint("name the user who will own the connection, such as --user 42")
}

/// Refuses a link for another user, unless the caller may change everything.
fn for_others(caller: &Caller, spec: &ConnectSessionSpec) -> Result<(), ApiError> {
    let of = spec.user.as_ref().and_then(Reference::id);
    match caller.user().filter(|_| !caller.edits_all()) {
        Some(user) if of != Some(&user.id) => Err(ApiError::RoleRefused(user.role.as_str())),
        _ => Ok(()),
    }
}

/// Refuses a return URL whose origin the configuration does not list.
fn returns(admin: &Admin, spec: &ConnectSessionSpec) -> Result<(), ApiError> {
    let Some(url) = &spec.return_url else { return Ok(()) };
    let origin = origin_of(url);
    let settings = admin.deps().connect.borrow().clone();
    match origin.filter(|origin| settings.return_urls.contains(origin)) {
        Some(_) => Ok(()),
        None => Err(ApiError::field(
            "return_url",
            "must be of an origin that `connect.return_urls` lists",
        )
        .hint("add the origin, such as https://app.example.com, to the configuration")),
    }
}

/// With the result of a consent that has just ended.
async fn show(
    context: Context,
    Segments(id): Segments<String>,
) -> Result<Json<Shown<ConnectSession>>, ApiError> {
    let session = resource::found::<ConnectSession>(&context, &id)?;
    let session = context.deps().flows.settle_connect_session(&session).await?;
    Ok(Json(resource::shown(&context, &session).await))
}

/// The providers that can be connected, each with the auth methods that can be used.
async fn providers(
    context: Context,
    Segments(id): Segments<String>,
    Params(page): Params<Page>,
) -> Result<Json<List<ProviderView>>, ApiError> {
    let session = resource::found::<ConnectSession>(&context, &id)?;
    let offers = Offers::of(&context.admin, &session);
    let mut views = offers.views();
    views.retain(|view| page.wants(&[&view.id, &view.name]));
    Ok(Json(page.cut(views, |view| &view.id)?))
}

/// The result is the same as of the form of the link. A consent needs the browser's cookie, so it has no such route.
async fn complete(
    context: Context,
    Segments(id): Segments<String>,
    Body(given): Body<Completion>,
) -> Result<Json<Shown<ConnectSession>>, ApiError> {
    let session = resource::found::<ConnectSession>(&context, &id)?;
    for_others(&context.caller, &session.spec)?;
    let Completion { provider, auth, variables, fields } = given;
    let attempt = ConnectAttempt::of(&context.admin, session)?;
    let choice = attempt.chosen(provider.as_deref(), auth.as_deref(), variables)?;
    context.caller.because(format!("for user {}", attempt.user().name));
    let done = attempt.with_key(choice, fields.0).await?;
    Ok(Json(resource::shown(&context, &done).await))
}

/// A second exchange is refused, and so is a code of another connect session. In a headless connect session, this
/// connects the account.
async fn exchange(
    context: Context,
    Segments(id): Segments<String>,
    Body(given): Body<ReturnCode>,
) -> Result<Json<Shown<ConnectSession>>, ApiError> {
    let session = resource::found::<ConnectSession>(&context, &id)?;
    for_others(&context.caller, &session.spec)?;
    let ReturnCode { code: SecretText(code), other_account } = given;
    let is_code = browser::is_code_of(&session, &code);
    let session = match is_code && session.headless {
        true => release(&context, session, other_account).await?,
        false => session,
    };
    if !is_code || session.facts.connected.is_none() {
        return Err(ApiError::field("code", "is not the code of this connect session"));
    }
    let directory = &context.deps().directory;
    let exchanged = directory.exchange_connect_session(&session).await.map_err(|error| {
        attempt::step_error(error, "the code was exchanged already: a code works once")
    })?;
    Ok(Json(resource::shown(&context, &exchanged).await))
}

/// Puts the tokens of a headless consent in force: no page of ours has asked the person, so they wait until the platform
/// exchanges the code of the browser that consented, of which it knows the user. The code was checked. A connect session that
/// is connected already stays as it is.
///
/// # Errors
/// When no tokens wait, or they are of another account than the connection's and `other_account` is false. Then
/// they wait on.
async fn release(
    context: &Context,
    session: Arc<Record<ConnectSession>>,
    other_account: bool,
) -> Result<Arc<Record<ConnectSession>>, ApiError> {
    let (org, flows) = (&session.org, &context.deps().flows);
    let Some(flow) = session.facts.flow.as_ref().filter(|_| session.facts.connected.is_none())
    else {
        return Ok(session);
    };
    if context.view().entitled_user(&session).is_none() {
        let why = "the user of this connect session is paused, or no longer owns the connection";
        return Err(ApiError::refused(why));
    }
    if let FlowState::Held { before: Some(before), account } = flows.view(org, flow).await?.state
        && !other_account
    {
        let account =
            account.map_or_else(|| "an unknown account".to_owned(), |it| format!("`{it}`"));
        return Err(ApiError::refused(format!(
            "the person consented with {account}; the connection has `{before}`"
        ))
        .hint("send `other_account: true` to use it, or end the connect session"));
    }
    flows.release(org, flow, other_account).await?;
    let settled = flows.settle_connect_session(&session).await?;
    context.admin.enforce().await?;
    match &settled.facts.failure {
        Some(why) if settled.facts.connected.is_none() => Err(ApiError::refused(why.clone())),
        _ => Ok(settled),
    }
}
