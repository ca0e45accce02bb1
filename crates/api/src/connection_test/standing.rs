//! What a test that a person asked for teaches about a connection: whose account it is, what it may do,
//! and, where that is certain, that its credential is refused.

use super::super::auth::Caller;
use super::super::changes;
use super::super::error::ApiError;
use super::super::state::Admin;
use super::super::wire::{ConnectionTested, TestOutcome};
use keyward_state::directory::{BrokenReason, ConnectionRecord, ConnectionState};

/// What is said of a connection whose key was refused.
const REFUSED: &str = "401";

/// Whether a second answer of the same kind would end the connection: once may be an accident of the
/// provider's.
pub(super) fn is_doubtful(connection: &ConnectionRecord, found: &ConnectionTested) -> bool {
    is_refused(found) && connection.facts.state == ConnectionState::Active
}

/// Whether the connection's client was refused: a person who tests it has it tried again.
pub(super) fn is_rejected(connection: &ConnectionRecord) -> bool {
    let rejected = BrokenReason::ClientRejected;
    matches!(connection.facts.state, ConnectionState::Broken { reason, .. } if reason == rejected)
}

fn is_refused(found: &ConnectionTested) -> bool {
    found.outcome == TestOutcome::WrongKey && found.status == Some(401)
}

/// Keeps what the test taught. A state that a person or the tokens' own server has set stays.
///
/// # Errors
/// When the store fails.
pub(crate) async fn learnt(
    (admin, caller): (&Admin, &Caller),
    connection: &ConnectionRecord,
    found: &ConnectionTested,
) -> Result<(), ApiError> {
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
        let failed = matches!(
            record.facts.state,
            ConnectionState::Broken { reason: BrokenReason::TestFailed, .. }
        );
        if found.ok && failed {
            record.facts.state = ConnectionState::Active;
        }
        // What has tokens is renewed, and ended by whoever issues them.
        if is_refused(found) && !renews && record.facts.state == ConnectionState::Active {
            let detail = Some(REFUSED.to_owned());
            record.facts.state =
                ConnectionState::Broken { reason: BrokenReason::TestFailed, detail };
        }
    };
    let (directory, id) = (&admin.deps().directory, &connection.id);
    let now = directory.update_connection(&connection.org, id, &change).await?;
    if now.facts.state != connection.facts.state {
        admin.enforce().await?;
        changes::told((admin, caller), &now, "tested", &found.message).await;
    }
    Ok(())
}

/// Whether its credential is a token that is renewed.
fn has_tokens(admin: &Admin, connection: &ConnectionRecord) -> bool {
    let catalogue = admin.deps().vault.catalogue();
    let provider = catalogue.get(&connection.provider);
    let auth = provider.and_then(|provider| provider.auth(connection.auth.as_deref()));
    auth.is_some_and(|auth| auth.oauth.is_some())
}
