//! A credential that is tested before it is stored, and what a manual test revealed about a connection: the
//! account, its permissions, and whether its credential is certainly rejected.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::context;
use super::super::context::Context;
use super::super::error::ApiError;
use super::super::state::Admin;
use super::super::wire::{ConnectionTested, TestOutcome};
use keyward_model::Connection;
use keyward_rules::inject::credential::Credential;
use keyward_rules::provider::AuthMethod;
use keyward_state::directory::{BrokenReason, ConnectionRecord, ConnectionState};

/// The stored detail of a connection whose key was rejected.
const REFUSED: &str = "401";

/// Whether a second response of this kind would mark the connection broken; a single one may be a temporary
/// error of the provider.
pub(super) fn is_doubtful(connection: &ConnectionRecord, found: &ConnectionTested) -> bool {
    is_refused(found) && connection.facts.state == ConnectionState::Active
}

/// Whether the token server has ended the connection; a manual test triggers a retry.
pub(super) fn is_ended_by_server(connection: &ConnectionRecord) -> bool {
    use BrokenReason::{AnswerLost, ClientRejected, Expired, Revoked};
    [AnswerLost, ClientRejected, Expired, Revoked].iter().any(|by| is_broken_by(connection, *by))
}

/// Whether its token was rejected and cannot be refreshed: the test shows whether it is accepted again.
pub(super) fn is_without_refresh(connection: &ConnectionRecord) -> bool {
    is_broken_by(connection, BrokenReason::NoRefreshToken)
}

/// Whether traffic has shown that the provider rejects the connection's secret. A successful test ends that, and
/// so does the test of a person where the provider has none: nothing else could.
pub(super) fn is_rejected_secret(connection: &ConnectionRecord) -> bool {
    is_broken_by(connection, BrokenReason::Rejected)
}

/// Whether a test has shown that the provider rejects the connection's secret.
pub(crate) fn is_rejected_by_test(connection: &ConnectionRecord) -> bool {
    is_broken_by(connection, BrokenReason::TestFailed) || is_rejected_secret(connection)
}

fn is_broken_by(connection: &ConnectionRecord, by: BrokenReason) -> bool {
    matches!(connection.facts.state, ConnectionState::Broken { reason, .. } if reason == by)
}

fn is_refused(found: &ConnectionTested) -> bool {
    // A database has no status.
    found.outcome == TestOutcome::WrongKey && found.status.is_none_or(|status| status == 401)
}

/// Stores the result. It does not override a state that a person or the token server has set.
///
/// # Errors
/// When the store fails.
pub(crate) async fn store_result(
    context: &Context,
    connection: &ConnectionRecord,
    found: &ConnectionTested,
) -> Result<(), ApiError> {
    let admin = &context.admin;
    let renews = has_tokens(admin, connection);
    let change = |record: &mut ConnectionRecord| {
        if found.ok {
            if found.account.is_some() {
                record.facts.whose.clone_from(&found.account);
            }
            if !renews && !found.scopes.is_empty() {
                record.facts.granted.clone_from(&found.scopes);
            }
        }
        if found.ok && is_broken_by(record, BrokenReason::TestFailed) {
            record.facts.state = ConnectionState::Active;
        }
        // A renewable token is renewed, and its server decides when it ends.
        if is_refused(found) && !renews && record.facts.state == ConnectionState::Active {
            let detail = Some(REFUSED.to_owned());
            record.facts.state =
                ConnectionState::Broken { reason: BrokenReason::TestFailed, detail };
        }
    };
    let (directory, id) = (&admin.deps().directory, &connection.id);
    let mut now = directory.change::<Connection>(&connection.org, id, change).await?;
    let is_accepted = found.ok || found.outcome == TestOutcome::NoTest;
    if is_accepted && is_rejected_secret(&now) {
        admin.deps().vault.refresh().accept(&connection.org, id).await?;
        now = context.connection(id.as_str())?;
    }
    if now.facts.state != connection.facts.state {
        admin.enforce().await?;
        context::publish_change(context, &now, "tested", &found.message).await;
    }
    Ok(())
}

/// Whether its credential is a renewable token.
fn has_tokens(admin: &Admin, connection: &ConnectionRecord) -> bool {
    let catalogue = admin.deps().vault.catalogue(&connection.org);
    let provider = catalogue.get(&connection.provider);
    let auth = provider.and_then(|provider| provider.auth(connection.auth.as_deref()));
    auth.is_some_and(AuthMethod::has_tokens)
}

/// A credential of the connection that is tested before it is used.
pub(crate) struct Trial {
    pub(crate) credential: Arc<Credential>,
    /// Its fields that are not secret.
    pub(crate) shown: BTreeMap<String, String>,
}
