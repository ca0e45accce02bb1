//! Disconnecting: here at once, then at the provider, which is told the truth about. What a server that
//! is down has not taken back is owed, in a sealed outbox, and tried again for a day.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Flows;
use super::error::FlowError;
use super::flow::Hidden;
use crate::base::id::{ConnectionId, OrgId};
use crate::directory::ConnectionRecord;
use crate::grant::Grant;
use crate::grant::oauth::{self, Failure};

/// The pause after a first failure, doubled by each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

/// What became of a connection's grant at its provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Revoked {
    /// The provider has taken it back.
    Yes,
    /// It has not yet: it is tried again until then.
    Later(Timestamp),
    /// It refused, for good.
    No(String),
    /// It has no way to.
    NotSupported {
        /// Where a person does it.
        by_hand: Option<String>,
    },
}

/// A revocation that is owed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Owed {
    /// As it was: provider, app, variables.
    connection: ConnectionRecord,
    /// The encoded grant, base64.
    grant: Hidden,
    until: Timestamp,
}

/// What one attempt said.
enum Attempt {
    Done(Revoked),
    Again,
}

impl Flows {
    /// Ends a connection here, and at its provider where `revoke` says so. Never fails because of the
    /// provider, and waits for it a bounded time.
    ///
    /// # Errors
    /// When there is no such connection, or the store fails.
    pub async fn disconnect(
        self: &Arc<Self>,
        org: &OrgId,
        id: &ConnectionId,
        revoke: bool,
    ) -> Result<Option<Revoked>, FlowError> {
        let ended = self.vault.disconnect(org, id).await?;
        let Some(ended) = ended.filter(|_| revoke) else { return Ok(None) };
        let life = SignedDuration::try_from(self.settings.load().revoke_for);
        let until = self.clock.now().saturating_add(life.unwrap_or_default());
        let owed = Owed {
            connection: ended.connection.as_ref().clone(),
            grant: Hidden::new(BASE64_STANDARD.encode(ended.grant.encode().as_slice())),
            until: until.unwrap_or(Timestamp::MAX),
        };
        // Before the first attempt: a crash in it leaves nothing unrevoked.
        self.outbox.put((org, id.as_str()), &owed, None).await?;
        let within = self.settings.load().revoke_timeout;
        let attempt = tokio::time::timeout(within, self.attempt(&owed)).await;
        if let Ok(Attempt::Done(revoked)) = attempt {
            self.outbox.delete(org, id.as_str()).await?;
            return Ok(Some(revoked));
        }
        let until = owed.until;
        self.try_again(owed);
        Ok(Some(Revoked::Later(until)))
    }

    pub(super) async fn resume_outbox(self: &Arc<Self>, org: &OrgId) {
        match self.outbox.all(org).await {
            Ok(all) => all.into_iter().for_each(|(_, owed, _)| self.try_again(owed)),
            Err(error) => tracing::error!(%error, "revocations that are owed cannot be read"),
        }
    }

    fn try_again(self: &Arc<Self>, owed: Owed) {
        let flows = Arc::clone(self);
        self.spawn(async move { flows.until_revoked(owed).await });
    }

    async fn until_revoked(&self, owed: Owed) {
        let mut pause = PAUSE_FIRST;
        let connection = &owed.connection;
        while self.clock.now() < owed.until {
            if !self.wait(pause).await {
                return;
            }
            if let Attempt::Done(revoked) = self.attempt(&owed).await {
                tracing::info!(connection = %connection.id, ?revoked, "told the provider at last");
                return self.settled(&owed).await;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
        tracing::warn!(connection = %connection.id, provider = connection.provider, "never revoked");
        self.settled(&owed).await;
    }

    async fn settled(&self, owed: &Owed) {
        let (org, id) = (&owed.connection.org, owed.connection.id.as_str());
        if let Err(error) = self.outbox.delete(org, id).await {
            tracing::error!(%error, "a revocation stays in the outbox");
        }
    }

    async fn attempt(&self, owed: &Owed) -> Attempt {
        let no = |why: String| Attempt::Done(Revoked::No(why));
        let bytes = BASE64_STANDARD.decode(owed.grant.text()).map(Zeroizing::new);
        let grant = bytes.ok().and_then(|bytes| Grant::decode(&bytes).ok());
        let Some(what) = grant.as_ref().and_then(Grant::revocable) else {
            return Attempt::Done(Revoked::NotSupported { by_hand: None });
        };
        let asking = match self.asking(&owed.connection).await {
            Ok(asking) => asking,
            Err(FlowError::Server(_) | FlowError::Down(_)) => return Attempt::Again,
            Err(error) => return no(error.to_string()),
        };
        let client = match self.client(&asking.app).await {
            Ok(client) => client,
            Err(error) => return no(error.to_string()),
        };
        let settings = self.settings.load_full();
        match oauth::revoke(&self.ask(&asking, &client, &settings), &what).await {
            oauth::Revoked::Yes => Attempt::Done(Revoked::Yes),
            oauth::Revoked::NotSupported { by_hand } => {
                Attempt::Done(Revoked::NotSupported { by_hand })
            }
            oauth::Revoked::No(Failure::Temporary(_)) => Attempt::Again,
            oauth::Revoked::No(failure) => no(failure.to_string()),
        }
    }
}
