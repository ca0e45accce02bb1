//! Whether the access of a [`Caller`] has ended while its answer is sent.

use std::time::Duration;

use super::{Caller, CallerIdentity};
use crate::state::Deps;
use keyward_model::User;
use keyward_state::directory::UserCredential;

/// How often a streaming answer checks whether the time of its caller's token or login has ended.
const CREDENTIAL_CHECK_EVERY: Duration = Duration::from_secs(15);

impl Caller {
    /// Whether the caller's authentication is still valid, with the same rights; checked during streaming responses.
    pub(crate) fn is_still_authenticated(&self, deps: &Deps) -> bool {
        let CallerIdentity::User(person) = &self.who else { return self.has_live_credential(deps) };
        let role = deps.directory.view().one::<User>(&self.org, &person.user.id).map(|it| it.role);
        role == Some(person.user.role) && self.has_live_credential(deps)
    }

    /// Whether the caller's token or login would still be accepted, perhaps with another role.
    pub(crate) fn has_live_credential(&self, deps: &Deps) -> bool {
        let (view, now) = (deps.directory.view(), deps.clock.now());
        let CallerIdentity::User(person) = &self.who else { return view.org(&self.org).is_some() };
        view.one::<User>(&self.org, &person.user.id).is_some_and(|user| {
            let is_live = match &person.credential {
                UserCredential::Token(id) => {
                    let live = user.facts.tokens.iter().find(|token| token.id == *id);
                    live.is_some_and(|token| token.is_live(now))
                }
                UserCredential::Login(id) => {
                    view.is_login_valid(&self.org, id, deps.sign_in.idle, now)
                }
            };
            !user.paused && is_live
        })
    }

    /// Waits until the caller's authentication is no longer valid: after a change at once, after its time within
    /// `CREDENTIAL_CHECK_EVERY`.
    pub(crate) async fn authentication_end(&self, deps: &Deps) {
        let mut changes = deps.directory.changes();
        while self.is_still_authenticated(deps) {
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(CREDENTIAL_CHECK_EVERY) => {}
            }
        }
    }
}
