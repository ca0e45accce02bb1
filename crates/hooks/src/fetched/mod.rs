//! Schemes whose key is not a secret of the hook: the caller fetches a certificate or a set of keys from a place that the
//! scheme names ([`Scheme::key_place`]), and the request is verified with it ([`Scheme::read_with`]).
//!
//! A request may name the URL of its key, so each scheme checks that it is a URL of the service. The `secret` of such a
//! hook is not a key: it names the accepted sender or receiver. It is compared first, so no key is fetched for requests
//! to others.
//!
//! ```text
//! sns          messages of AWS SNS
//! pubsub       pushes of Google Pub/Sub
//! paypal       webhooks of PayPal
//! plaid        webhooks of Plaid
//! certificate  the public key of a certificate
//! jwt          JSON Web Tokens and keys
//! ```

mod certificate;
pub(crate) mod form;
mod jwt;
pub(crate) mod key_place;
mod paypal;
mod plaid;
mod pubsub;
mod sns;

use jiff::Timestamp;

use keyward_base::secret::Secret;

use self::form::FetchedForm;
use self::key_place::{HookMessage, KeyPlace};
use crate::key::texts;
use crate::request::HookRequest;
use crate::{Incoming, Rejection, Scheme};

impl Scheme {
    /// Where the key of a request is; `None` if the scheme's keys are secrets of the hook.
    ///
    /// # Errors
    /// When the request is not one of the service for this hook.
    pub fn key_place(
        &self,
        incoming: &Incoming<'_>,
        secrets: &[Secret],
    ) -> Result<Option<KeyPlace>, Rejection> {
        let Some(form) = self.fetched else { return Ok(None) };
        let request = HookRequest::new(incoming);
        let accepted = texts(secrets);
        let place = match form {
            FetchedForm::Sns => sns::key_place(&request, &accepted),
            FetchedForm::Pubsub => pubsub::key_place(&request, &accepted),
            FetchedForm::Paypal => paypal::key_place(&request, &accepted),
            FetchedForm::Plaid => plaid::key_place(&request),
        };
        place.map(Some)
    }

    /// Verifies a request with the document of its [`KeyPlace`].
    ///
    /// # Errors
    /// When the signature is not by a key of the document, the signed time is outside of the window, or the request is for
    /// another receiver.
    pub fn read_with(
        &self,
        document: &[u8],
        incoming: &Incoming<'_>,
        secrets: &[Secret],
        now: Timestamp,
    ) -> Result<HookMessage, Rejection> {
        let form = self.fetched.ok_or(Rejection::KeyUnknown)?;
        let request = HookRequest::new(incoming);
        let accepted = texts(secrets);
        match form {
            FetchedForm::Sns => sns::read(document, &request, &accepted, now),
            FetchedForm::Pubsub => pubsub::read(document, &request, &accepted, now),
            FetchedForm::Paypal => paypal::read(document, &request, &accepted, now),
            FetchedForm::Plaid => plaid::read(document, &request, now),
        }
    }

    /// Whether the key is fetched with the credential of the hook's connection. Then there is no secret.
    pub fn asks_api(&self) -> bool {
        self.fetched == Some(FetchedForm::Plaid)
    }
}
