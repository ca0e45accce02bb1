//! [`SignInMethodChange`]: a user whose means of sign-in are changed. It checks who may change them, and whether the caller
//! must prove the password: the unattended browser of a member or an auditor must not be enough to replace it. That of an
//! admin is: admins make links, also for themselves, and change the means of all others.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Extension;

use crate::context::Context;
use crate::error::ApiError;
use crate::request_id::SecureRequest;
use crate::resource::found;
use crate::sign_in::limits::{PasswordTry, network};
use crate::state::Admin;
use keyward_model::{Login, Record, Role, Scope, SecretText, SignInMethod, User};
use keyward_state::directory::UserCredential;

/// The user, changed by the caller. Users change their own means of sign-in, admins those of all.
pub(crate) struct SignInMethodChange<'a> {
    pub(crate) user: Arc<Record<User>>,
    context: &'a Context,
}

impl<'a> SignInMethodChange<'a> {
    /// # Errors
    /// When the caller may not change them. A password signs in with all rights and does not expire, so a token, and a
    /// login with the link of one, needs both.
    pub(crate) fn of(context: &'a Context, name: &str) -> Result<Self, ApiError> {
        let (caller, user) = (&context.caller, found::<User>(context, name)?);
        if !caller.covers(Scope::All) {
            return Err(ApiError::ScopeMissing(Scope::All.to_string()));
        }
        if !caller.edits_all() && caller.user().is_none_or(|own| own.id != user.id) {
            return Err(ApiError::AnotherUser(user.name.clone()));
        }
        if caller.token_ends().is_none() {
            return Ok(Self { user, context });
        }
        let who = match caller.credential() {
            Some(UserCredential::Login(_)) => "a login with the link of a token that expires",
            _ => "a token that expires",
        };
        Err(ApiError::refused(format!("{who} cannot change how users sign in"))
            .hint("use a token without an end, or a link that was made without such a token"))
    }

    /// The caller, who changes their own.
    ///
    /// # Errors
    /// As [`SignInMethodChange::of`], and for the operator, who is no user.
    pub(crate) fn own(context: &'a Context) -> Result<Self, ApiError> {
        let own = context.caller.user().ok_or_else(|| {
            ApiError::refused("the operator is no user, and has no passkeys")
                .hint("sign in to the console: `keyward login-link`")
        })?;
        Self::of(context, own.id.as_str())
    }

    pub(crate) fn admin(&self) -> &Admin {
        &self.context.admin
    }

    /// Refuses end users, who do not sign in, and users of an identity provider, which decides whether they do.
    pub(crate) fn signs_in(&self) -> Result<(), ApiError> {
        if let Some(identity) = &self.user.facts.identity {
            let (name, issuer) = (&self.user.name, &identity.issuer);
            return Err(ApiError::refused(format!(
                "user `{name}` signs in at {issuer}, which decides whether they may"
            ))
            .hint("passwords and passkeys are for users that were added here"));
        }
        match self.user.role {
            Role::EndUser => {
                let rule = "must not be an end user: end users do not sign in";
                Err(ApiError::field("user", rule))
            }
            Role::Admin | Role::Member | Role::Auditor => Ok(()),
        }
    }

    /// Whether the caller must prove that it is still the user: they change their own, and did not sign in with a link.
    pub(crate) fn needs_proof(&self) -> bool {
        let (caller, view) = (&self.context.caller, self.context.view());
        let is_own = caller.user().is_some_and(|own| own.id == self.user.id);
        let is_by_link = match caller.credential() {
            Some(UserCredential::Login(id)) => view
                .one::<Login>(caller.org(), id)
                .is_some_and(|login| login.method == SignInMethod::Link),
            _ => false,
        };
        is_own && !is_by_link
    }

    /// Checks the current password, if the caller must know it. Guesses are limited as those of a sign-in from a known
    /// network.
    ///
    /// # Errors
    /// When it is missing or wrong.
    pub(crate) async fn prove(
        &self,
        current: Option<SecretText>,
        visit: Option<Extension<SecureRequest>>,
    ) -> Result<(), ApiError> {
        let known = self.user.facts.password.clone().filter(|_| self.needs_proof());
        let Some(known) = known else { return Ok(()) };
        let current = current.ok_or_else(|| ApiError::field("current", "is missing"))?;
        let client = visit.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |Extension(visit)| visit.client);
        let (org, user) = (self.user.org.name(), self.user.id.as_str());
        let limits = self.context.admin.sign_in_limits();
        let network = network(client);
        limits.try_password(PasswordTry { org, user, network, is_known: true })?;
        match limits.matches(current.0, Some(known)).await? {
            true => Ok(()),
            false => Err(ApiError::WrongProof {
                field: "current",
                message: "is not the current password",
                hint: None,
            }),
        }
    }

    /// Refuses users who remove their own means of sign-in, unless they signed in with a link.
    ///
    /// # Errors
    /// When the caller must prove that it is still the user.
    pub(crate) fn may_remove(&self, what: &str) -> Result<(), ApiError> {
        match self.needs_proof() {
            false => Ok(()),
            true => {
                let hint = "ask an admin for a link, or run `keyward login-link --user NAME` on the gateway's machine";
                Err(ApiError::refused(format!(
                    "your own {what} can be removed only in a browser that signed in with a link"
                ))
                .hint(hint))
            }
        }
    }
}
