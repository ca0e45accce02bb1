//! [`FetchedKeys`]: certificates and sets of keys with which services sign, from the services' own places. They are kept for
//! a while. Without one, requests are refused, and the service repeats them.
//!
//! Everybody can send a request that asks for a key, so the number of fetches and that of kept documents is bounded.

use std::collections::HashMap;

use bytes::Bytes;
use http::{Request, Response};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::accept::Refused;
use super::{Inbox, KeyQuestion};
use keyward_base::id::ConnectionId;
use keyward_hooks::{KeyPlace, Read, Rejection};
use keyward_model::{Hook, Record, Reference};
use keyward_net::call::{Bounds, Servers};

/// How long a document is used. Services publish new keys earlier than they sign with them.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(1);

/// A document that lacks a key is fetched again after this.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// Documents of at most 64 KiB each.
const KEPT_MAX: usize = 64;

/// Larger than any certificate or set of keys.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// Fetches a minute, of all hooks.
const FETCHES_MAX: usize = 60;

/// Where a document came from: the connection, for those that need a credential.
type Origin = (Option<ConnectionId>, KeyPlace);

/// Documents that were fetched.
#[derive(Debug)]
pub(crate) struct FetchedKeys {
    kept: Mutex<HashMap<Origin, Kept>>,
    /// Fetches, and since when they are counted.
    fetches: Mutex<(Timestamp, usize)>,
}

#[derive(Clone, Debug)]
struct Kept {
    document: Bytes,
    at: Timestamp,
}

impl Default for FetchedKeys {
    fn default() -> Self {
        Self { kept: Mutex::default(), fetches: Mutex::new((Timestamp::MIN, 0)) }
    }
}

impl FetchedKeys {
    fn get(&self, origin: &Origin, now: Timestamp) -> Option<Kept> {
        let kept = self.kept.lock().get(origin).cloned();
        kept.filter(|kept| now.duration_since(kept.at) < KEPT_FOR)
    }

    fn put(&self, origin: Origin, document: Bytes, at: Timestamp) {
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT_MAX && !kept.contains_key(&origin) {
            let oldest = kept.iter().min_by_key(|(_, kept)| kept.at);
            if let Some(oldest) = oldest.map(|(origin, _)| origin.clone()) {
                kept.remove(&oldest);
            }
        }
        kept.insert(origin, Kept { document, at });
    }

    fn may_fetch(&self, now: Timestamp) -> bool {
        let mut fetches = self.fetches.lock();
        if now.duration_since(fetches.0) >= SignedDuration::from_mins(1) {
            *fetches = (now, 0);
        }
        fetches.1 += 1;
        fetches.1 <= FETCHES_MAX
    }
}

impl Inbox {
    /// Verifies a request with a document that is kept, or fetched now. `ask`: asks a service with the credential of a
    /// connection.
    pub(crate) async fn read_with<F, A>(
        &self,
        hook: &Record<Hook>,
        place: KeyPlace,
        verify: impl Fn(&[u8]) -> Result<Read, Rejection>,
        ask: F,
    ) -> Result<Read, Refused>
    where
        F: FnOnce(KeyQuestion) -> A,
        A: Future<Output = Result<Bytes, String>>,
    {
        let connection = match &place {
            KeyPlace::Public(_) => None,
            KeyPlace::Api { .. } => {
                let id = hook.connection.as_ref().and_then(Reference::id);
                let missing = || Refused::NoKey("the hook has no connection".to_owned());
                Some(id.cloned().ok_or_else(missing)?)
            }
        };
        let (origin, now) = ((connection, place), self.clock.now());
        if let Some(kept) = self.fetched.get(&origin, now) {
            let read = verify(&kept.document);
            let lacks = matches!(read, Err(Rejection::KeyUnknown | Rejection::KeyStrange));
            if !lacks || now.duration_since(kept.at) < AGAIN_AFTER {
                return Ok(read?);
            }
        }
        if !self.fetched.may_fetch(now) {
            return Err(Refused::NoKey("too many keys were fetched in this minute".to_owned()));
        }
        let fetched = match &origin {
            (_, KeyPlace::Public(url)) => self.fetch(url).await,
            (Some(connection), KeyPlace::Api { path, body }) => {
                let (org, connection) = (hook.org.clone(), connection.clone());
                ask(KeyQuestion { org, connection, path, body: body.clone() }).await
            }
            (None, KeyPlace::Api { .. }) => Err("the hook has no connection".to_owned()),
        };
        let document = fetched.map_err(Refused::NoKey)?;
        // Kept before it is used: requests with wrong signatures must not fetch it each time.
        self.fetched.put(origin, document.clone(), now);
        Ok(verify(&document)?)
    }

    async fn fetch(&self, url: &str) -> Result<Bytes, String> {
        let answer = self.get(url, Servers::Secure).await?;
        match answer.status().as_u16() {
            200 => Ok(answer.into_body()),
            status => Err(format!("its place answered {status}")),
        }
    }

    /// The answer of a service at a URL that was checked.
    pub(crate) async fn get(&self, url: &str, servers: Servers) -> Result<Response<Bytes>, String> {
        let caller = self.caller.get().ok_or("the gateway has no client")?;
        let request = Request::get(url).body(Bytes::new()).map_err(|error| error.to_string())?;
        let timeout = self.settings.load().timeout;
        let bounds = Bounds {
            whole: timeout,
            connect: timeout,
            answer: None,
            head_bytes_max: 16 * 1024,
            body_bytes_max: DOCUMENT_BYTES_MAX,
            servers,
        };
        caller.call(request, &bounds).await.map_err(|error| error.to_string())
    }
}
