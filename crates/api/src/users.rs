//! `/users`: people and what they may do. Admins change them; a member sees only themselves.

pub(super) mod logins;
pub(super) mod means;
pub(super) mod passkeys;
pub(super) mod passwords;
pub(super) mod personal;
pub(super) mod totp;

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error;

use super::body::Params;
use super::context::Context;
use super::error::ApiError;
use super::input::{Input, InputChange};
use super::openapi::Routes;
use super::page::Page;
use super::resource::{self, Changeable, Exposed};
use super::wire::List;
use keyward_model::{
    Passkey, PersonalToken, PersonalTokenShown, Record, Role, Shown, SignInMethods, User,
    UserFacts, UserShown,
};
use keyward_state::directory::UserCredential;

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/users", ["listUsers", "List users"], list)
        .post("/users", ["addUser", "Add a user"], resource::add::<User>)
        .get("/users/{user}", ["getUser", "Show a user"], resource::show::<User>)
        .patch("/users/{user}", ["changeUser", "Change a user"], resource::change::<User>)
        .delete("/users/{user}", ["removeUser", "Remove a user"], resource::remove::<User>)
}

/// Which users a list has: `?q=&role=&limit=&after=`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Search {
    /// Part of a name, id or address, any case.
    q: Option<String>,
    /// A role, or several with commas between them.
    role: Option<String>,
    #[schemars(range(min = 1, max = 1_000))]
    limit: Option<usize>,
    after: Option<String>,
}

async fn list(
    context: Context,
    Params(asked): Params<Search>,
) -> Result<Json<List<Shown<User>>>, ApiError> {
    let Search { q, role, limit, after } = asked;
    let roles = role.as_deref().map(roles).transpose()?;
    let is_wanted = |user: &Record<User>| roles.as_ref().is_none_or(|all| all.contains(&user.role));
    resource::page_of(&context, &Page::of(q, limit, after), is_wanted).await
}

fn roles(text: &str) -> Result<Vec<Role>, ApiError> {
    let refused = |_: Error| ApiError::field("role", "must be admin, member, auditor or end_user");
    text.split(',')
        .map(|role| Role::deserialize(role.into_deserializer()).map_err(refused))
        .collect()
}

impl Exposed for User {
    type Added = Shown<Self>;

    fn texts<'a>(_: &'a Context, user: &'a Record<Self>) -> Vec<Cow<'a, str>> {
        user.email.as_deref().map(Cow::Borrowed).into_iter().collect()
    }

    fn sees(context: &Context, user: &Record<Self>) -> bool {
        context.caller.sees_user(user)
    }

    fn may_write(context: &Context, _: Option<&Record<Self>>) -> Result<(), ApiError> {
        context.caller.must_edit_all()
    }

    async fn shown_facts(context: &Context, user: &Record<Self>) -> UserShown {
        let tokens = user.facts.tokens.iter();
        let sign_in = SignInMethods {
            password: user.facts.password.is_some(),
            totp: user.facts.totp.is_some(),
            passkeys: user.facts.passkeys.iter().map(Passkey::shown).collect(),
        };
        let tokens = tokens.map(|token| token_shown(context, user, token)).collect();
        UserShown { tokens, sign_in, identity: user.facts.identity.clone() }
    }

    async fn add(context: &Context, input: Input<Self>) -> Result<Shown<Self>, ApiError> {
        let user = resource::store_new::<Self>(context, input.spec, UserFacts::default()).await?;
        context.caller.because(format!("role {}", user.role.as_str()));
        Ok(resource::shown(context, &user).await)
    }
}

impl Changeable for User {
    type Changed = Shown<Self>;

    /// A pause or a new role takes effect at the next request, and ends the user's other logins.
    async fn change(
        context: &Context,
        user: Arc<Record<Self>>,
        change: InputChange<Self>,
    ) -> Result<Shown<Self>, ApiError> {
        context.caller.because(described(&change, &user));
        let changed = resource::store_change(context, &user, &change, |_| {}).await?;
        if changed.paused || changed.role != user.role {
            let but = match context.caller.credential() {
                Some(UserCredential::Login(id)) if !changed.paused => Some(id),
                _ => None,
            };
            context.deps().directory.end_logins(&changed.org, &changed.id, but).await?;
        }
        Ok(resource::shown(context, &changed).await)
    }
}

/// What a change says, for the audit log. A form sends role and address also where they stay as they are.
fn described(change: &InputChange<User>, user: &Record<User>) -> String {
    let role = change.patch.get("role").and_then(|role| role.as_str());
    let role = role.filter(|role| *role != user.role.as_str());
    let role = role.map(|role| format!("role {role}"));
    let paused = change.patch.get("paused").and_then(|paused| paused.as_bool());
    let paused = paused.map(|paused| if paused { "paused" } else { "resumed" }.to_owned());
    let email = change.patch.get("email").filter(|email| email.as_str() != user.email.as_deref());
    let email = email.map(|_| "e-mail address".to_owned());
    role.into_iter().chain(paused).chain(email).collect::<Vec<_>>().join(", ")
}

/// A token without its text.
pub(super) fn token_shown(
    context: &Context,
    user: &Record<User>,
    token: &PersonalToken,
) -> PersonalTokenShown {
    PersonalTokenShown {
        id: token.id.clone(),
        user: user.id.clone(),
        name: user.name.clone(),
        spec: token.spec.clone(),
        created: token.created,
        expires: token.expires,
        last_used: context.deps().metrics.usage.token(&token.id).last,
    }
}
