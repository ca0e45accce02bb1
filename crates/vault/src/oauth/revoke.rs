//! Disconnects: locally at once, then at the provider, whose answer is reported as it is. A revocation that fails
//! is stored in a sealed outbox and retried for a day, together with the app, which may be removed meanwhile.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Flows;
use super::error::FlowError;
use super::flow::{Received, SealedText};
use super::start::FlowContext;
use crate::grant::oauth::{self, Client, Failure};
use crate::grant::{AppSecret, Grant};
use crate::{LateAnswers, RemovedConnection, RowError};
use keyward_base::id::{ConnectionId, OrgId};
use keyward_state::directory::{AppRecord, ConnectionRecord};
use keyward_state::store::StoreError;

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
pub(super) struct OwedRevocation {
    /// As it was: provider, app, variables.
    connection: ConnectionRecord,
    /// The encoded grant, base64.
    grant: SealedText,
    /// The app at that time. Absent without an app, and in rows of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app: Option<OwedRevocationApp>,
    until: Timestamp,
}

/// What is said where the answer of a refresh was lost while its connection was removed.
const LOST: &str = "a refresh was under way whose answer was lost: tokens that it gave may live on";

/// What is said where the gateway ends before such an answer comes.
const STOPPED: &str = "the gateway ended before the answer of a refresh came: tokens that it gives may live on at \
                       the provider";

/// A connection that is removed here, and the app that revokes its grants: it may be removed as well.
struct RevocationTarget {
    connection: Arc<ConnectionRecord>,
    app: Option<OwedRevocationApp>,
}

/// The client of a revocation that is owed.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct OwedRevocationApp {
    record: AppRecord,
    /// The encoded secret, base64.
    secret: SealedText,
}

/// What one attempt said.
enum RevocationAttempt {
    Done(Revoked),
    Again,
}

impl Revoked {
    /// Of two grants, what has to be told first: a refusal, what is owed, what has no way.
    fn and(self, other: Self) -> Self {
        let rank = |revoked: &Self| match revoked {
            Self::No(_) => 0,
            Self::Later(_) => 1,
            Self::NotSupported { .. } => 2,
            Self::Yes => 3,
        };
        if rank(&other) < rank(&self) { other } else { self }
    }
}

fn encoded(grant: &Grant) -> SealedText {
    SealedText::new(BASE64_STANDARD.encode(grant.encode().as_slice()))
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
        // Before the connection goes, which keeps its app from being removed.
        let before = self.directory().view().connection(org, id).filter(|_| revoke).cloned();
        let app = match before {
            Some(connection) => self.owed_app(&connection).await,
            None => None,
        };
        let ended = self.vault.disconnect(org, id, revoke).await?;
        self.end_consents_of(org, id).await;
        let RemovedConnection { connection, grant, late } = ended;
        let removed = RevocationTarget { connection, app };
        let deadline = Instant::now() + self.settings.load().revoke_timeout;
        let first = match grant.filter(|_| revoke) {
            None => None,
            Some(grant) => {
                let owed = removed.owed(encoded(&grant), self.revoked_until());
                Some(self.owe_until(id.as_str(), owed, deadline).await?)
            }
        };
        let Some(mut late) = late else { return Ok(first) };
        // A refresh is under way: what it brings is to be revoked as well.
        let newer = match tokio::time::timeout_at(deadline, late.landed()).await {
            Ok(()) => self.revoke_late(&removed, late, deadline).await?,
            Err(_) => {
                self.revoke_when_landed(removed, late);
                Revoked::Later(self.revoked_until())
            }
        };
        Ok(Some(first.map_or(newer.clone(), |first| first.and(newer))))
    }

    /// Has the provider take a grant back, now or later. `key`: of its row in the outbox.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn owe(
        self: &Arc<Self>,
        key: &str,
        connection: &ConnectionRecord,
        grant: SealedText,
    ) -> Result<Revoked, FlowError> {
        let deadline = Instant::now() + self.settings.load().revoke_timeout;
        let owed = self.owed(connection, grant, self.revoked_until()).await;
        self.owe_until(key, owed, deadline).await
    }

    async fn owe_until(
        self: &Arc<Self>,
        key: &str,
        owed: OwedRevocation,
        deadline: Instant,
    ) -> Result<Revoked, FlowError> {
        let org = &owed.connection.org;
        // Before the first attempt: a crash in it leaves nothing unrevoked.
        match self.outbox.put(org, key, &owed, None).await {
            Ok(_) => {}
            // It was owed before a crash, and is tried again already.
            Err(RowError::Store(StoreError::Conflict { .. })) => {
                return Ok(Revoked::Later(owed.until));
            }
            Err(error) => return Err(error.into()),
        }
        let attempt = tokio::time::timeout_at(deadline, Box::pin(self.attempt(&owed))).await;
        if let Ok(RevocationAttempt::Done(revoked)) = attempt {
            self.outbox.delete(org, key).await?;
            return Ok(revoked);
        }
        let until = owed.until;
        self.try_again(key.to_owned(), owed);
        Ok(Revoked::Later(until))
    }

    /// One attempt for a grant that the store did not take.
    pub(super) async fn revoke_unkept(&self, received: &Received) {
        let Some(connection) = received.connection.as_deref().cloned() else { return };
        let id = connection.id.clone();
        let owed = self.owed(&connection, received.grant.clone(), Timestamp::MAX).await;
        let within = self.settings.load().revoke_timeout;
        match tokio::time::timeout(within, Box::pin(self.attempt(&owed))).await {
            Ok(RevocationAttempt::Done(Revoked::Yes)) => {}
            _ => {
                tracing::error!(connection = %id, "a grant that was not kept stays at its provider")
            }
        }
    }

    /// What refreshes brought after their connection was removed.
    async fn revoke_late(
        self: &Arc<Self>,
        removed: &RevocationTarget,
        late: LateAnswers,
        deadline: Instant,
    ) -> Result<Revoked, FlowError> {
        let (answers, is_lost) = late.answers();
        let mut all = Revoked::Yes;
        for (number, answer) in answers.iter().enumerate() {
            let key = format!("{}-{number}", removed.connection.id);
            let grant = SealedText::new(BASE64_STANDARD.encode(answer.as_slice()));
            let owed = removed.owed(grant, self.revoked_until());
            all = all.and(self.owe_until(&key, owed, deadline).await?);
        }
        match is_lost {
            true => Ok(all.and(Revoked::No(LOST.to_owned()))),
            false => Ok(all),
        }
    }

    /// The same in the background. A gateway that stops has waited for its refreshes by then, for a bounded
    /// time: what came is owed, and what has not come is lost with the process.
    fn revoke_when_landed(self: &Arc<Self>, removed: RevocationTarget, mut late: LateAnswers) {
        let flows = Arc::clone(self);
        self.spawn(async move {
            let mut stop = flows.stop.subscribe();
            let has_landed = tokio::select! {
                biased;
                () = late.landed() => true,
                _ = stop.wait_for(|stop| *stop) => false,
            };
            let outcome = flows.revoke_late(&removed, late, Instant::now()).await;
            let outcome = match has_landed {
                true => outcome,
                false => outcome.map(|came| Revoked::No(STOPPED.to_owned()).and(came)),
            };
            let connection = &removed.connection;
            match outcome {
                Ok(Revoked::No(why)) => tracing::warn!(
                    connection = %connection.id, name = connection.name, why,
                    "a late refresh is not revoked"
                ),
                Ok(_) => {}
                Err(error) => tracing::error!(
                    connection = %connection.id, %error, "a late refresh is not revoked"
                ),
            }
        });
    }

    async fn owed(
        &self,
        connection: &ConnectionRecord,
        grant: SealedText,
        until: Timestamp,
    ) -> OwedRevocation {
        let app = self.owed_app(connection).await;
        OwedRevocation { connection: connection.clone(), grant, app, until }
    }

    fn revoked_until(&self) -> Timestamp {
        let life = SignedDuration::try_from(self.settings.load().revoke_for);
        let until = self.clock.now().saturating_add(life.unwrap_or_default());
        until.unwrap_or(Timestamp::MAX)
    }

    pub(super) async fn resume_outbox(self: &Arc<Self>, org: &OrgId) {
        match self.outbox.all(org).await {
            Ok(all) => all.into_iter().for_each(|(key, owed, _)| self.try_again(key, owed)),
            Err(error) => tracing::error!(%error, "revocations that are owed cannot be read"),
        }
    }

    fn try_again(self: &Arc<Self>, key: String, owed: OwedRevocation) {
        let flows = Arc::clone(self);
        self.spawn(async move { flows.until_revoked(&key, owed).await });
    }

    async fn until_revoked(&self, key: &str, owed: OwedRevocation) {
        let mut pause = PAUSE_FIRST;
        let connection = &owed.connection;
        while self.clock.now() < owed.until {
            if !self.wait(pause).await {
                return;
            }
            if let RevocationAttempt::Done(revoked) = self.attempt(&owed).await {
                match revoked {
                    Revoked::Yes => tracing::info!(
                        connection = %connection.id, name = connection.name,
                        provider = connection.provider, "the provider has revoked what was owed"
                    ),
                    Revoked::No(why) => given_up(connection, &why),
                    Revoked::Later(_) => given_up(connection, "the provider asks to try later"),
                    Revoked::NotSupported { .. } => {
                        given_up(connection, "the provider has no way to revoke it");
                    }
                }
                return self.settled(key, &owed).await;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
        given_up(connection, "the provider could not be told in time");
        self.settled(key, &owed).await;
    }

    /// The app of a connection with its secret, to be kept with what is owed.
    async fn owed_app(&self, connection: &ConnectionRecord) -> Option<OwedRevocationApp> {
        let app = self.app_of(connection).ok()?;
        // Also of an app that left the configuration file: it asks for no token here.
        match self.vault.opened_secret(&app).await {
            Ok(secret) => {
                let secret = SealedText::new(BASE64_STANDARD.encode(secret.encode().as_slice()));
                Some(OwedRevocationApp { record: AppRecord::clone(&app), secret })
            }
            Err(error) => {
                tracing::warn!(%error, "a revocation is owed without the secret of its app");
                None
            }
        }
    }

    /// Who asks for what is owed: the app as it is now, else as it was.
    async fn asking_owed(&self, owed: &OwedRevocation) -> Result<(FlowContext, Client), FlowError> {
        let now = match self.app_of(&owed.connection) {
            Ok(app) => self.client(&app).await.map(|client| (app, client)),
            Err(error) => Err(error),
        };
        let (app, client) = match (now, &owed.app) {
            (Ok(now), _) => now,
            (Err(_), Some(kept)) => {
                (Arc::new(kept.record.clone()), kept.client().ok_or(FlowError::NoFlow)?)
            }
            (Err(error), None) => return Err(error),
        };
        Ok((self.asking_by(&owed.connection, app).await?, client))
    }

    async fn settled(&self, key: &str, owed: &OwedRevocation) {
        if let Err(error) = self.outbox.delete(&owed.connection.org, key).await {
            tracing::error!(%error, "a revocation stays in the outbox");
        }
    }

    async fn attempt(&self, owed: &OwedRevocation) -> RevocationAttempt {
        let no = |why: String| RevocationAttempt::Done(Revoked::No(why));
        let bytes = BASE64_STANDARD.decode(owed.grant.text()).map(Zeroizing::new);
        let grant = bytes.ok().and_then(|bytes| Grant::decode(&bytes).ok());
        let Some(what) = grant.as_ref().and_then(Grant::revocable) else {
            return RevocationAttempt::Done(Revoked::NotSupported { by_hand: None });
        };
        let (asking, client) = match self.asking_owed(owed).await {
            Ok(both) => both,
            Err(error @ FlowError::NoApp { .. }) => return no(error.to_string()),
            // A provider or a secret that is not there now may come back.
            Err(error) => {
                tracing::debug!(connection = %owed.connection.id, %error, "not revoked yet");
                return RevocationAttempt::Again;
            }
        };
        let settings = self.settings.load_full();
        match oauth::revoke(&self.ask(&asking, &client, &settings), &what).await {
            oauth::RevokeResult::Yes => RevocationAttempt::Done(Revoked::Yes),
            oauth::RevokeResult::NotSupported { by_hand } => {
                RevocationAttempt::Done(Revoked::NotSupported { by_hand })
            }
            oauth::RevokeResult::No(Failure::Temporary(_)) => RevocationAttempt::Again,
            oauth::RevokeResult::No(failure) => no(failure.to_string()),
        }
    }
}

impl RevocationTarget {
    fn owed(&self, grant: SealedText, until: Timestamp) -> OwedRevocation {
        let connection = ConnectionRecord::clone(&self.connection);
        OwedRevocation { connection, grant, app: self.app.clone(), until }
    }
}

impl OwedRevocationApp {
    /// `None` when the secret is none.
    fn client(&self) -> Option<Client> {
        let bytes = BASE64_STANDARD.decode(self.secret.text()).map(Zeroizing::new).ok()?;
        let secret = AppSecret::decode(&bytes).ok()?;
        let (id, key_id) = (self.record.client_id.clone(), self.record.settings.key_id.clone());
        Some(Client { id, secret, key_id })
    }
}

fn given_up(connection: &ConnectionRecord, why: &str) {
    tracing::warn!(
        connection = %connection.id, name = connection.name, provider = connection.provider, why,
        "a revocation that is owed is given up: take the access away at the provider"
    );
}
