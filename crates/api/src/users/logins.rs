//! `/logins`: the browsers in which users are signed in. Admins and auditors see all of the organisation, others
//! their own. `/login-links`: links that sign a user in once, made by admins and by the operator of the gateway.

use std::sync::Arc;

use axum::Json;
use http::StatusCode;
use jiff::SignedDuration;

use crate::auth::Caller;
use crate::body::{Body, Params, Segments};
use crate::context::Context;
use crate::error::ApiError;
use crate::etag::IfMatch;
use crate::openapi::Routes;
use crate::page::Page;
use crate::resource::{found, remove_stored, store_new};
use crate::tokens::text_of;
use crate::wire::{List, LoginLinkRequest, LoginLinkView};
use keyward_base::id::LoginId;
use keyward_model::{Login, LoginShown, Record, Role, Scope, Shown, User, UserFacts, UserSpec};
use keyward_state::directory::{LoginBounds, NewLink, UserCredential, idle_until};

pub(crate) fn routes() -> Routes {
    Routes::new()
        .get("/logins", ["listLogins", "List the browsers in which users are signed in"], list)
        .delete("/logins/{login}", ["endLogin", "Sign a browser out"], end)
}

async fn list(
    context: Context,
    Params(page): Params<Page>,
) -> Result<Json<List<Shown<Login>>>, ApiError> {
    let view = context.view();
    let all = view.all::<Login>(context.caller.org());
    let mut wanted = Vec::new();
    for login in all.filter_map(|login| shown(&context, login)) {
        let texts = [
            login.id.as_str(),
            &login.facts.user_name,
            login.spec.browser.as_deref().unwrap_or_default(),
            login.spec.address.as_deref().unwrap_or_default(),
        ];
        if page.wants(&texts) {
            wanted.push(login);
        }
    }
    page.cut(wanted, |login| login.id.as_str()).map(Json)
}

async fn end(
    context: Context,
    Segments(id): Segments<String>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    let (view, caller) = (context.view(), &context.caller);
    let known = LoginId::parse(&id).ok();
    let known = known.and_then(|id| view.one::<Login>(caller.org(), &id));
    let found = known.and_then(|login| Some((login, shown(&context, login)?)));
    if !found.as_ref().is_some_and(|(login, _)| is_own(caller, login)) {
        caller.has_rights()?;
    }
    let (login, shown) = found.ok_or_else(|| ApiError::not_found("login", &id))?;
    caller.record_changed("login", &login.id, &shown.facts.user_name);
    remove_stored(&context, login, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the caller signed in, and the login is one of theirs: people of every role end these, as they sign out.
fn is_own(caller: &Caller, login: &Record<Login>) -> bool {
    let is_signed_in = matches!(caller.credential(), Some(UserCredential::Login(_)));
    is_signed_in && caller.user().is_some_and(|user| login.user.id() == Some(&user.id))
}

/// As the API answers with it; `None` if it has ended, or is not for the caller.
fn shown(context: &Context, login: &Arc<Record<Login>>) -> Option<Shown<Login>> {
    let (view, deps) = (context.view(), context.deps());
    let user = view.one::<User>(&login.org, login.user.id()?)?;
    let idle_until = idle_until(login, deps.sign_in.idle);
    if !context.caller.sees_user(user) || !user.may_sign_in() || deps.clock.now() >= idle_until {
        return None;
    }
    let current = context.caller.credential() == Some(&UserCredential::Login(login.id.clone()));
    Some(login.shown(LoginShown {
        user_name: user.name.clone(),
        last_used: login.facts.last_used,
        idle_until,
        expires: login.facts.expires,
        current,
    }))
}

/// How long a link works: long enough to carry it to another machine.
const LIFE: SignedDuration = SignedDuration::from_mins(10);

/// The user that is added to an organisation without an admin.
const FIRST_ADMIN: &str = "admin";

/// Admins that a refusal names.
const NAMED_MAX: usize = 5;

pub(crate) fn login_link_routes() -> Routes {
    let text = ["addLoginLink", "Make a link that signs a user in once"];
    Routes::new().post("/login-links", text, add)
}

struct LinkUser {
    user: Arc<Record<User>>,
    /// Whether the user was added for the link.
    added: bool,
}

async fn add(
    context: Context,
    Body(ask): Body<LoginLinkRequest>,
) -> Result<(StatusCode, Json<LoginLinkView>), ApiError> {
    let (deps, caller) = (context.deps(), &context.caller);
    caller.must_edit_all()?;
    // A login may do all that its user may, and does not outlive what made its link.
    if !caller.covers(Scope::All) {
        return Err(ApiError::ScopeMissing(Scope::All.to_string()));
    }
    let bounds = LoginBounds { until: caller.ends(), token_ends: caller.token_ends() };
    let LinkUser { user, added } = match (&ask.user, caller.user()) {
        (Some(name), _) => LinkUser { user: found::<User>(&context, name)?, added: false },
        (None, Some(own)) => LinkUser { user: own.clone(), added: false },
        (None, None) => only_admin(&context).await?,
    };
    caller.record_changed("user", &user.id, &user.name);
    let expires = deps.clock.now() + LIFE;
    let directory = &deps.directory;
    let new = NewLink { expires, bounds, maker: caller.link_maker() };
    let link = directory.add_login_link(&user.org, &user.id, new).await?;
    let url = format!("{}/login?link={}", deps.public_url, text_of(&link)?);
    let view = LoginLinkView { url, user: user.name.clone(), added, expires };
    Ok((StatusCode::CREATED, Json(view)))
}

/// The only admin of the organisation; if it has none, a new one.
async fn only_admin(context: &Context) -> Result<LinkUser, ApiError> {
    let view = context.view();
    let all = view.all::<User>(context.caller.org());
    let mut admins: Vec<_> = all.filter(|user| user.role == Role::Admin && !user.paused).collect();
    admins.sort_by(|a, b| a.name.cmp(&b.name));
    match admins.as_slice() {
        [] => Ok(LinkUser { user: first_admin(context).await?, added: true }),
        [only] => Ok(LinkUser { user: Arc::clone(only), added: false }),
        [named @ .., last] => {
            let more = named.len().saturating_sub(NAMED_MAX);
            let names: Vec<_> =
                named.iter().take(NAMED_MAX).map(|user| format!("`{}`", user.name)).collect();
            let last = match more {
                0 => format!("`{}`", last.name),
                more => format!("{} more", more + 1),
            };
            let message = format!("is missing: the admins are {} and {last}", names.join(", "));
            let hint = "name one: `keyward login-link --user NAME`";
            Err(ApiError::field("user", message).hint(hint))
        }
    }
}

async fn first_admin(context: &Context) -> Result<Arc<Record<User>>, ApiError> {
    let spec =
        UserSpec { name: FIRST_ADMIN.to_owned(), email: None, role: Role::Admin, paused: false };
    let added = store_new::<User>(context, spec, UserFacts::default()).await;
    added.map_err(|error| match error {
        ApiError::Taken { .. } => {
            let message = format!(
                "is missing: the organisation has no active admin, and `{FIRST_ADMIN}` is another user"
            );
            let hint = "make a user an admin: `keyward user set NAME --role admin --resume`";
            ApiError::field("user", message).hint(hint)
        }
        error => error,
    })
}
