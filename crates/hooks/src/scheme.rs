//! [`Scheme`]: how a service signs. Found by id, among those of `schemes.yaml` and those that an id itself describes.

use http::Method;
use jiff::{SignedDuration, Timestamp};

use keyward_base::secret::Secret;

use crate::challenge_rule::{ChallengePlace, ChallengeRule, EventAnswer};
use crate::fetched::form::FetchedForm;
use crate::key::{SecretError, VerificationKey};
use crate::request::HookRequest;
use crate::template::TemplatePiece;
use crate::verify::{VerifiedRequest, Way, any};
use crate::{Incoming, Rejection};

/// How long ids are remembered where no time is signed.
const REPLAY_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// Longest body that hooks accept by default: most services' own limits are between 64 KiB and 1 MiB.
pub const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A scheme by which a service signs its webhooks. Data: `schemes.yaml`.
#[derive(Debug)]
pub struct Scheme {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) docs: String,
    pub(crate) secret_label: String,
    pub(crate) challenges: Vec<ChallengeRule>,
    pub(crate) answer: EventAnswer,
    /// Whether different events may have the same bytes.
    pub(crate) repeats: bool,
    pub(crate) redelivers: bool,
    pub(crate) body_bytes_max: usize,
    /// Empty if keys are fetched.
    pub(crate) ways: Vec<Way>,
    /// Of a service whose keys are fetched.
    pub(crate) fetched: Option<FetchedForm>,
}

impl Scheme {
    /// Its name in provider files, configuration and API.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The service.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The page that documents the scheme.
    pub fn docs(&self) -> &str {
        &self.docs
    }

    /// What the secret is called at the service, for forms.
    pub fn secret_label(&self) -> &str {
        &self.secret_label
    }

    /// Whether the service hands the secret over in a first request, so that none is needed before.
    pub fn learns_secret(&self) -> bool {
        self.challenges.iter().any(|rule| rule.learn.is_some())
    }

    /// Whether a person must enter the secret that the service handed over there before it sends events.
    pub fn confirms_secret(&self) -> bool {
        self.challenges.iter().any(|rule| matches!(rule.learn, Some(ChallengePlace::Body(_))))
    }

    /// Whether the service checks the URL by a HEAD request.
    pub fn checks_by_head(&self) -> bool {
        self.challenges.iter().any(|rule| rule.method == Some(Method::HEAD))
    }

    /// How the service expects that its events are answered.
    pub fn event_answer(&self) -> EventAnswer {
        self.answer
    }

    /// Longest body that a hook of this scheme accepts by default.
    pub fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    /// Whether the service sends an event again only when a person asks for that. A repeated request is then wanted.
    pub fn redelivers(&self) -> bool {
        self.redelivers
    }

    /// Whether the whole body is signed. Otherwise a sender of a valid signature could have changed it: some services sign a
    /// token beside it or some fields, and others send only a token.
    pub fn signs_body(&self) -> bool {
        self.fetched.is_none_or(FetchedForm::signs_body)
            && self.ways.iter().all(|way| {
                way.signed.has(&TemplatePiece::Body) || way.signed.has(&TemplatePiece::Form)
            })
    }

    /// Checks the form of a secret.
    ///
    /// # Errors
    /// When no way of the scheme can use it.
    pub fn check_secret(&self, secret: &Secret) -> Result<(), SecretError> {
        if let Some(form) = self.fetched {
            return form.check(secret);
        }
        let mut first = Ok(());
        for way in &self.ways {
            match VerificationKey::read(way.key, way.algorithm, secret) {
                Ok(_) => return Ok(()),
                Err(error) => first = first.and(Err(error)),
            }
        }
        first
    }

    /// Verifies a request by any of `secrets`: the current one and, after a rotation, the previous one.
    ///
    /// # Errors
    /// When the signature is not by one of them, or the signed time is outside of the window.
    pub fn verify(
        &self,
        incoming: &Incoming<'_>,
        secrets: &[Secret],
        now: Timestamp,
    ) -> Result<VerifiedRequest, Rejection> {
        if self.challenges.iter().any(|rule| rule.may_have_signed(incoming.body)) {
            return Err(Rejection::BodyStrange);
        }
        self.verify_signature(&HookRequest::new(incoming), secrets, now)
    }

    /// The verify token that a person enters at the service beside the URL, where it asks for one. It is derived
    /// from the secret, so that no second one must be kept, and does not disclose it.
    pub fn verify_token(&self, secret: &Secret) -> Option<String> {
        self.challenges.iter().find(|rule| rule.verify_token.is_some())?;
        self.usable_keys(std::slice::from_ref(secret)).next()?.verify_token()
    }

    /// How long ids must be remembered, so that a repeated request is noticed: twice the time window, since a signed time
    /// may lie in the future by as much; a day where no time is signed; zero where events have no id.
    pub fn replay_window(&self) -> SignedDuration {
        if self.repeats {
            return SignedDuration::ZERO;
        }
        if let Some(form) = self.fetched {
            return form.replay_window();
        }
        let window = |way: &Way| way.time.as_ref().map_or(REPLAY_WINDOW, |time| time.window * 2);
        self.ways.iter().map(window).max().unwrap_or(REPLAY_WINDOW)
    }

    /// The secrets as keys of the scheme's first way.
    pub(crate) fn usable_keys<'s>(
        &'s self,
        secrets: &'s [Secret],
    ) -> impl Iterator<Item = VerificationKey> + 's {
        let ways = self.ways.iter().take(1);
        ways.flat_map(move |way| {
            secrets
                .iter()
                .filter_map(|secret| VerificationKey::read(way.key, way.algorithm, secret).ok())
        })
    }

    /// Verifies a request, whatever its body is.
    pub(crate) fn verify_signature(
        &self,
        request: &HookRequest<'_>,
        secrets: &[Secret],
        now: Timestamp,
    ) -> Result<VerifiedRequest, Rejection> {
        any(&self.ways, self.repeats, request, secrets, now)
    }
}
