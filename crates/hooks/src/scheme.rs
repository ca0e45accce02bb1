//! [`Scheme`]: how a service signs. Found by id, among those of `schemes.yaml` and those that an id itself describes.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::LazyLock;

use http::HeaderName;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use keyward_base::secret::Secret;

use crate::challenge::{self, Challenge, ChallengeForm};
use crate::fetched::FetchedForm;
use crate::key::{Algorithm, Key, KeyForm, SecretError};
use crate::request::Request;
use crate::signature::{Encoding, Layout};
use crate::template::{Piece, Template};
use crate::verify::{self, Place, Verified, Way};
use crate::{Incoming, Rejection, written};

/// How long ids are remembered where no time is signed.
const REPLAY_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// Schemes that ids describe are kept for the life of the process, so their number is bounded.
const DESCRIBED_MAX: usize = 1024;

/// Documents schemes that an id describes.
const HMAC: &str = "https://www.rfc-editor.org/rfc/rfc2104";

/// A scheme by which a service signs its webhooks. Data: `schemes.yaml`.
#[derive(Debug)]
pub struct Scheme {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) docs: String,
    pub(crate) secret_label: String,
    pub(crate) challenge: Option<ChallengeForm>,
    /// Whether different events may have the same bytes.
    pub(crate) repeats: bool,
    /// Empty if keys are fetched.
    pub(crate) ways: Vec<Way>,
    /// Of a service whose keys are fetched.
    pub(crate) fetched: Option<FetchedForm>,
}

/// All schemes of `schemes.yaml`, sorted by id.
pub fn all() -> &'static [Scheme] {
    static READ: LazyLock<Vec<Scheme>> = LazyLock::new(|| {
        let read = written::read(include_str!("schemes.yaml"));
        read.unwrap_or_else(|why| panic!("schemes.yaml: {why}: a test reads it"))
    });
    &READ
}

/// The scheme with this id. An id such as `base64-sha256:x-xero-signature` describes one: an HMAC of the body, in that
/// encoding, with that hash (`sha1`, `sha256`, `sha512`), in that header.
pub fn get(id: &str) -> Option<&'static Scheme> {
    let known = all();
    match known.binary_search_by(|scheme| scheme.id.as_str().cmp(id)) {
        Ok(at) => Some(&known[at]),
        Err(_) => described(id),
    }
}

fn described(id: &str) -> Option<&'static Scheme> {
    static DESCRIBED: LazyLock<Mutex<HashMap<String, &'static Scheme>>> =
        LazyLock::new(Mutex::default);
    let scheme = Scheme::described(id)?;
    let mut described = DESCRIBED.lock();
    if let Some(known) = described.get(&scheme.id) {
        return Some(known);
    }
    if described.len() == DESCRIBED_MAX {
        return None;
    }
    let scheme: &'static Scheme = Box::leak(Box::new(scheme));
    described.insert(scheme.id.clone(), scheme);
    Some(scheme)
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
        matches!(self.challenge, Some(ChallengeForm::Asana | ChallengeForm::Notion))
    }

    /// Whether the whole body is signed. Otherwise a sender of a valid signature could have changed it: Mailgun signs a
    /// token beside it, Adyen some fields, and others send only a token.
    pub fn signs_body(&self) -> bool {
        self.fetched.is_none_or(FetchedForm::signs_body)
            && self
                .ways
                .iter()
                .all(|way| way.signed.has(&Piece::Body) || way.signed.has(&Piece::Form))
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
            match Key::read(way.key, way.algorithm, secret) {
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
    ) -> Result<Verified, Rejection> {
        if self.challenge.is_some_and(|form| form.may_have_signed(incoming.body)) {
            return Err(Rejection::BodyStrange);
        }
        verify::verify(self, &Request::new(incoming), secrets, now)
    }

    /// The answer to a request that only proves the URL or hands over the secret; `None`: it is an event. A challenge that
    /// the service signs is verified first.
    ///
    /// # Errors
    /// When it is a challenge, and its signature or verify token is wrong.
    pub fn challenge(
        &self,
        incoming: &Incoming<'_>,
        secrets: &[Secret],
        now: Timestamp,
    ) -> Result<Option<Challenge>, Rejection> {
        challenge::answer(self, &Request::new(incoming), secrets, now)
    }

    /// The verify token that a person enters at the service beside the URL, where it asks for one (Meta). It is derived
    /// from the secret, so that no second one must be kept, and does not disclose it.
    pub fn verify_token(&self, secret: &Secret) -> Option<String> {
        self.challenge.filter(|form| *form == ChallengeForm::Meta)?;
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
    ) -> impl Iterator<Item = Key> + 's {
        let ways = self.ways.iter().take(1);
        ways.flat_map(move |way| {
            secrets.iter().filter_map(|secret| Key::read(way.key, way.algorithm, secret).ok())
        })
    }

    /// `ENCODING-HASH:HEADER`.
    fn described(id: &str) -> Option<Self> {
        let (form, header) = id.split_once(':')?;
        let header = HeaderName::from_str(header).ok()?;
        let (encoding, hash) = form.split_once('-')?;
        let (encoding, written) = match encoding {
            "hex" => (Encoding::Hex, "hexadecimal digits"),
            "base64" => (Encoding::Base64, "base64"),
            _ => return None,
        };
        let (algorithm, name) = match hash {
            "sha1" => (Algorithm::HmacSha1, "HMAC-SHA-1"),
            "sha256" => (Algorithm::HmacSha256, "HMAC-SHA-256"),
            "sha512" => (Algorithm::HmacSha512, "HMAC-SHA-512"),
            _ => return None,
        };
        Some(Self {
            id: format!("{form}:{header}"),
            name: format!("{name} of the body in {header}, as {written}"),
            docs: HMAC.to_owned(),
            secret_label: "signing secret".to_owned(),
            challenge: None,
            repeats: false,
            fetched: None,
            ways: vec![Way {
                key: KeyForm::Text,
                algorithm,
                signature: Place::Headers(vec![header]),
                layout: Layout::Whole,
                encoding,
                signed: Template::body(),
                items: None,
                time: None,
                id: None,
            }],
        })
    }
}
