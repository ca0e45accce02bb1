//! Accepts the requests of services: a request is verified over its raw body, and stored before it is answered. A
//! repeated one is answered and not delivered again, unless its service repeats it only for a person.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::error::{InboxError, InboxRefusal};
use super::event::{self, EventRow, HookEvent};
use super::queue::WaitingEvent;
use super::{HookKeyRequest, Inbox};
use keyward_hooks::{ChallengeAction, HookMessage, Incoming, Scheme};
use keyward_model::{Hook, HookRefusal, Record};
use keyward_net::call::AllowedServers;
use keyward_state::store::StoreError;
use keyward_vault::RowError;

/// The answer to a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Accepted {
    /// The event is stored.
    Stored {
        id: String,
        /// Whether it was stored before, and its service was asked to send it again.
        is_again: bool,
    },
    /// It was stored before, and is not delivered again.
    Repeated { id: String },
    /// The request is a challenge that is answered without a body.
    Acknowledged,
    /// The request is a challenge, not an event; this is its answer.
    Answer {
        /// The type of the body.
        content_type: &'static str,
        body: Vec<u8>,
        field: Option<(HeaderName, HeaderValue)>,
    },
}

impl Inbox {
    /// Verifies and stores a request to a hook. `ask`: asks the service with the credential of the hook's connection.
    ///
    /// # Errors
    /// When it is refused. Nothing of it is stored then.
    pub async fn accept<F, A>(
        &self,
        hook: &Record<Hook>,
        incoming: &Incoming<'_>,
        ask: F,
    ) -> Result<Accepted, InboxRefusal>
    where
        F: FnOnce(HookKeyRequest) -> A,
        A: Future<Output = Result<Bytes, String>>,
    {
        let accepted = self.try_accept(hook, incoming, ask).await;
        match &accepted {
            Ok(Accepted::Stored { .. }) => self.metrics.hooks.accepted("stored"),
            Ok(Accepted::Repeated { .. }) => self.metrics.hooks.accepted("repeated"),
            Ok(Accepted::Acknowledged | Accepted::Answer { .. }) => {
                self.metrics.hooks.accepted("answered");
            }
            Err(refused) => self.metrics.hooks.refused(refused.code()),
        }
        if let Err(refused) = &accepted {
            let (code, reason) = (refused.code().to_owned(), refused.to_string());
            let at = self.clock.now();
            self.queue.lock().refused(&hook.id, HookRefusal { at, code, reason });
        }
        accepted
    }

    async fn try_accept<F, A>(
        &self,
        hook: &Record<Hook>,
        incoming: &Incoming<'_>,
        ask: F,
    ) -> Result<Accepted, InboxRefusal>
    where
        F: FnOnce(HookKeyRequest) -> A,
        A: Future<Output = Result<Bytes, String>>,
    {
        let scheme = self.scheme(hook).ok_or(InboxRefusal::NoScheme)?;
        let keys = self.keys.get(&hook.org, hook.id.as_str()).await.map_err(InboxError::from)?;
        let now = self.clock.now();
        let keys = keys.map(|(keys, _)| keys).unwrap_or_default();
        let secrets = keys.secrets(now);
        let read = match scheme.key_place(incoming, &secrets)? {
            Some(place) => {
                let verify = |document: &[u8]| scheme.read_with(document, incoming, &secrets, now);
                self.read_with(hook, place, verify, ask).await?
            }
            None => match scheme.challenge(incoming, &secrets, now)? {
                Some(challenge) => HookMessage::Challenge(challenge),
                None => HookMessage::Event(scheme.verify(incoming, &secrets, now)?),
            },
        };
        match read {
            HookMessage::Challenge(challenge) => self.answer(hook, scheme, challenge).await,
            HookMessage::Event(verified) => {
                if keys.is_unconfirmed() {
                    self.confirm_secret(hook).await?;
                }
                self.store(hook, scheme, event::id_of(&verified.id), incoming).await
            }
        }
    }

    async fn store(
        &self,
        hook: &Record<Hook>,
        scheme: &Scheme,
        id: String,
        incoming: &Incoming<'_>,
    ) -> Result<Accepted, InboxRefusal> {
        if self.queue.lock().is_full(&hook.id, self.settings.load().waiting_max) {
            return Err(InboxRefusal::Full);
        }
        let event = HookEvent::new(&hook.id, id.clone(), incoming, scheme, self.clock.now());
        let (row, waiting) = (event.row(), WaitingEvent::of(&hook.org, &event));
        let event = EventRow::Waiting(event);
        let mut over = None;
        while let Err(error) = self.events.put(&hook.org, &row, &event, over).await {
            let RowError::Store(StoreError::Conflict { .. }) = error else {
                return Err(InboxError::from(error).into());
            };
            let known = self.events.get(&hook.org, &row).await.map_err(InboxError::from)?;
            let is_wanted_again = match &known {
                Some((EventRow::Waiting(_), _)) => false,
                Some((EventRow::Dead { .. }, _)) => scheme.redelivers(),
                Some((EventRow::Taken { until, .. }, _)) => {
                    scheme.redelivers() || *until <= self.clock.now()
                }
                // It was forgotten meanwhile.
                None => true,
            };
            if !is_wanted_again {
                // It is not queued if its write was made and reported as failed.
                self.follow(&hook.org, &row).await?;
                return Ok(Accepted::Repeated { id });
            }
            over = known.map(|(_, version)| version);
        }
        self.queue.lock().push(&hook.id, waiting);
        self.signal_change();
        Ok(Accepted::Stored { id, is_again: over.is_some() })
    }

    async fn answer(
        &self,
        hook: &Record<Hook>,
        scheme: &Scheme,
        challenge: ChallengeAction,
    ) -> Result<Accepted, InboxRefusal> {
        match challenge {
            ChallengeAction::Answer { content_type, body, header } => {
                Ok(Accepted::Answer { content_type, body, field: header })
            }
            ChallengeAction::Acknowledge => Ok(Accepted::Acknowledged),
            ChallengeAction::Secret { secret, answer } => {
                self.store_first_secret(hook, scheme, &secret).await?;
                Box::pin(self.answer(hook, scheme, *answer)).await
            }
            ChallengeAction::Confirm { url } => self.confirm(&url).await,
        }
    }

    /// Fetches the page that confirms a subscription; its host was checked.
    async fn confirm(&self, url: &str) -> Result<Accepted, InboxRefusal> {
        let answer = self
            .get(url, AllowedServers::SecureOrLoopback)
            .await
            .map_err(InboxRefusal::Unconfirmed)?;
        match answer.status().is_success() {
            true => Ok(Accepted::Answer { content_type: "text/plain", body: vec![], field: None }),
            false => {
                Err(InboxRefusal::Unconfirmed(format!("answered {}", answer.status().as_u16())))
            }
        }
    }
}
