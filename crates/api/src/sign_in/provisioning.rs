//! Maps a sign-in with an identity provider to a user. The user is found by issuer and subject only, because an address
//! may pass to another person; added at the first sign-in; and gets the role of its groups at each sign-in.

use std::sync::Arc;

use keyward_base::id::OrgId;
use keyward_base::sign_in::SignInRole;
use keyward_model::{ManagedBy, Record, Resource, Role, User, UserFacts, UserSpec};
use keyward_state::directory::{DirectoryError, View};
use keyward_vault::oidc::{AuthenticatedPerson, SignInError};

use super::attempt::Browser;

use crate::change_record::PendingRecord;
use crate::error::ApiError;

/// How often a new user is tried while others take its name.
const TRIES: usize = 3;

/// Users of the same name that are counted.
const SAME_NAME_MAX: usize = 10_000;

/// Leaves room for `-9999`.
const NAME_BYTES_MAX: usize = 59;

/// The user. Who is not admitted any more is signed out everywhere.
///
/// # Errors
/// When the person is not admitted, or the user is paused.
pub(super) async fn user_of(
    browser: &Browser<'_>,
    org: &OrgId,
    arrived: &AuthenticatedPerson,
) -> Result<Arc<Record<User>>, SignInRefusal> {
    let directory = &browser.admin.deps().directory;
    let known = directory.view().user_of_identity(org, &arrived.identity).cloned();
    let role = match (arrived.admission, &known) {
        (Ok(role), _) => role_of(role),
        (Err(refusal), known) => {
            if let Some(user) = known {
                let ended = directory.end_logins(org, &user.id, None).await;
                ended.map_err(ApiError::from)?;
            }
            return Err(SignInRefusal::Provider(SignInError::NotAdmitted(refusal)));
        }
    };
    match known {
        None => Ok(added(browser, org, arrived, role).await?),
        Some(user) if !user.may_sign_in() => Err(SignInRefusal::Paused),
        Some(user) if user.role == role => Ok(user),
        Some(user) => Ok(with_role(browser, &user, role).await?),
    }
}

/// Sets the role, and ends the logins that had the other one.
async fn with_role(
    browser: &Browser<'_>,
    user: &Record<User>,
    role: Role,
) -> Result<Arc<Record<User>>, ApiError> {
    let Browser { admin, visit, .. } = browser;
    let record = PendingRecord::of_user(admin, "changed", &user.org, visit.client).await?;
    let directory = &admin.deps().directory;
    let set = |user: &mut Record<User>| user.spec.role = role;
    let changed = match directory.change::<User>(&user.org, &user.id, set).await {
        Ok(changed) => changed,
        Err(error) => return Err(record.refused(error.into())),
    };
    record.of_changed_user(&changed, &format!("role {}, by the identity provider", role.as_str()));
    directory.end_logins(&changed.org, &changed.id, None).await?;
    Ok(changed)
}

async fn added(
    browser: &Browser<'_>,
    org: &OrgId,
    arrived: &AuthenticatedPerson,
    role: Role,
) -> Result<Arc<Record<User>>, ApiError> {
    let Browser { admin, visit, .. } = browser;
    let record = PendingRecord::of_user(admin, "added", org, visit.client).await?;
    let directory = &admin.deps().directory;
    let mut tries = TRIES;
    loop {
        let view = directory.view();
        // Another sign-in of the same person was faster.
        if let Some(user) = view.user_of_identity(org, &arrived.identity) {
            record.omit();
            return Ok(user.clone());
        }
        let spec = new_user(&view, org, arrived, role);
        let identity = Some(arrived.identity.clone());
        let facts = UserFacts { identity, ..UserFacts::default() };
        match directory.add::<User>(org, ManagedBy::Store, spec, facts).await {
            Ok(user) => {
                let why = format!("role {}, by the identity provider", role.as_str());
                record.of_changed_user(&user, &why);
                return Ok(user);
            }
            Err(DirectoryError::NameTaken { .. }) if tries > 0 => tries -= 1,
            Err(error) => return Err(record.refused(error.into())),
        }
    }
}

/// A user with a new name. An address that another user has is not stored: it links no accounts.
fn new_user(view: &View, org: &OrgId, arrived: &AuthenticatedPerson, role: Role) -> UserSpec {
    let is_free = |name: &str| view.all::<User>(org).all(|user| user.name != name);
    let base = base_name(arrived);
    let numbered = (2..SAME_NAME_MAX).map(|number| format!("{base}-{number}"));
    let mut names = std::iter::once(base.clone()).chain(numbered);
    let name = names.find(|name| is_free(name)).unwrap_or_else(|| base.clone());
    let has_address = |user: &Arc<Record<User>>, email: &str| {
        user.email.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(email))
    };
    let email = arrived.email.clone();
    let email = email.filter(|email| !view.all::<User>(org).any(|user| has_address(user, email)));
    let spec = UserSpec { name, email, role, paused: false };
    // An address in another form than users have.
    match User::refusals(&spec).iter().any(|refusal| refusal.field == "email") {
        true => UserSpec { email: None, ..spec },
        false => spec,
    }
}

/// The part before the `@`, in the characters of users' names.
fn base_name(arrived: &AuthenticatedPerson) -> String {
    let given = arrived.name.as_deref().unwrap_or_default();
    let given = given.split('@').next().unwrap_or_default();
    let fitting = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = given.chars().map(|c| if fitting(c) { c } else { '-' }).collect();
    let name: String = name.trim_matches(['-', '.']).chars().take(NAME_BYTES_MAX).collect();
    let spec = UserSpec { name, email: None, role: Role::Auditor, paused: false };
    match User::refusals(&spec).is_empty() {
        true => spec.name,
        false => "user".to_owned(),
    }
}

fn role_of(role: SignInRole) -> Role {
    match role {
        SignInRole::Auditor => Role::Auditor,
        SignInRole::Member => Role::Member,
        SignInRole::Admin => Role::Admin,
    }
}

/// Why a browser is not signed in.
pub(super) enum SignInRefusal {
    /// By the provider, or by its answer.
    Provider(SignInError),
    /// The user is paused, or became an end user.
    Paused,
    /// By the directory, or because of a fault.
    Api(ApiError),
}

#[cfg(test)]
mod tests {
    use keyward_model::Identity;

    use super::*;

    #[test]
    fn a_user_name_is_derived_from_the_name_that_the_identity_provider_sends() {
        for (given, name) in [
            (Some("ann@acme.test"), "ann"),
            (Some("Ann Miller"), "Ann-Miller"),
            (Some("Zoë"), "Zo"),
            (Some("王"), "user"),
            (Some("@acme.test"), "user"),
            (Some("usr_0123456789abcdefghij"), "user"),
            (Some("..."), "user"),
            (Some(&*"x".repeat(200)), &*"x".repeat(NAME_BYTES_MAX)),
            (None, "user"),
        ] {
            let identity = Identity { issuer: String::new(), subject: String::new() };
            let arrived = AuthenticatedPerson {
                identity,
                admission: Ok(SignInRole::Member),
                email: None,
                name: given.map(str::to_owned),
                to: String::new(),
            };
            assert_eq!(base_name(&arrived), name, "{given:?}");
        }
    }
}
