//! Verifies requests with keys that are fetched from the services themselves. If a key cannot be fetched, the request
//! is refused, and the service repeats it.

use bytes::Bytes;
use http::{Request, Response};
use jiff::SignedDuration;

use super::error::InboxRefusal;
use super::{HookKeyRequest, Inbox};
use keyward_hooks::{HookMessage, KeyPlace, Rejection};
use keyward_model::{Hook, Record, Reference};
use keyward_net::call::{AllowedServers, Bounds};

/// A document that lacks a key is fetched again after this.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// Larger than any certificate or set of keys.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

impl Inbox {
    /// Verifies a request with a document that is kept, or fetched now. `ask`: asks a service with the credential of a
    /// connection.
    pub(crate) async fn read_with<F, A>(
        &self,
        hook: &Record<Hook>,
        place: KeyPlace,
        verify: impl Fn(&[u8]) -> Result<HookMessage, Rejection>,
        ask: F,
    ) -> Result<HookMessage, InboxRefusal>
    where
        F: FnOnce(HookKeyRequest) -> A,
        A: Future<Output = Result<Bytes, String>>,
    {
        let connection = match &place {
            KeyPlace::Public(_) => None,
            KeyPlace::Api { .. } => {
                let id = hook.connection.as_ref().and_then(Reference::id);
                let missing = || InboxRefusal::NoKey("the hook has no connection".to_owned());
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
        if !self.fetched.may_fetch(&hook.id, &origin, now) {
            return Err(InboxRefusal::NoKey(
                "requests named too many new keys in this minute".to_owned(),
            ));
        }
        let fetched = match &origin {
            (_, KeyPlace::Public(url)) => self.fetch(url).await,
            (Some(connection), KeyPlace::Api { path, body }) => {
                let (org, connection) = (hook.org.clone(), connection.clone());
                ask(HookKeyRequest { org, connection, path, body: body.clone() }).await
            }
            (None, KeyPlace::Api { .. }) => Err("the hook has no connection".to_owned()),
        };
        let document = fetched.map_err(InboxRefusal::NoKey)?;
        // Kept before it is used: requests with wrong signatures must not fetch it each time.
        self.fetched.put(origin, document.clone(), now);
        Ok(verify(&document)?)
    }

    async fn fetch(&self, url: &str) -> Result<Bytes, String> {
        let answer = self.get(url, AllowedServers::Secure).await?;
        match answer.status().as_u16() {
            200 => Ok(answer.into_body()),
            status => Err(format!("its URL answered {status}")),
        }
    }

    /// The answer of a service at a URL that was checked.
    pub(crate) async fn get(
        &self,
        url: &str,
        servers: AllowedServers,
    ) -> Result<Response<Bytes>, String> {
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
