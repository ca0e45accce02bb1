//! [`HookEvent`]: a verified request of a service, and the row of it. The row outlives the delivery, without the request,
//! for as long as the service's request could be repeated.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use keyward_base::id::HookId;
use keyward_hooks::{Incoming, Scheme};

/// Bytes of all forwarded fields together. Further fields are omitted.
const FIELDS_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the events that wait at one hook, and of those whose deliveries all failed. The number alone would permit
/// 10,000 of 2 MiB, which are 20 GB of the disk.
pub(crate) const EVENTS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Bytes of the delivered events that one hook keeps.
pub(crate) const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Fields that concern only the connection to the gateway, or are credentials for the gateway.
const NOT_FORWARDED: [HeaderName; 18] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    header::VIA,
    header::FORWARDED,
    header::ACCEPT_ENCODING,
    header::ACCEPT,
    header::USER_AGENT,
    header::ORIGIN,
];

/// A verified request, and the progress of its delivery.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HookEvent {
    /// Equal for repeated requests; 32 hexadecimal digits.
    pub id: String,
    pub hook: HookId,
    /// When it was accepted.
    pub received: Timestamp,
    /// The type of the body.
    pub content_type: Option<String>,
    /// The fields of the request that a program may need.
    pub fields: Vec<(String, String)>,
    /// The body, base64.
    body: String,
    /// Failed deliveries.
    pub tries: u32,
    /// The earliest time of the next delivery.
    pub next: Timestamp,
}

/// How far an event is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EventState {
    /// It waits for its delivery.
    Waiting,
    /// All deliveries failed.
    Dead {
        /// The last reason.
        why: String,
    },
    /// It was delivered, and is kept.
    Delivered,
}

/// The events of a hook in the same state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventList {
    /// In the order of their delivery.
    Waiting,
    /// The oldest first.
    Dead,
    /// The newest first.
    Delivered,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(crate) enum EventRow {
    Waiting(HookEvent),
    /// All deliveries failed.
    Dead {
        event: HookEvent,
        why: String,
    },
    /// It was delivered. A repeated request is known until then.
    Taken {
        hook: HookId,
        until: Timestamp,
        /// The event, while it is kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        event: Option<Box<HookEvent>>,
    },
}

impl HookEvent {
    /// Of a verified request.
    pub(crate) fn new(
        hook: &HookId,
        id: String,
        request: &Incoming<'_>,
        scheme: &Scheme,
        now: Timestamp,
    ) -> Self {
        let Incoming { headers, body, .. } = *request;
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        Self {
            id,
            hook: hook.clone(),
            received: now,
            content_type: content_type.map(str::to_owned),
            fields: forwarded(headers, scheme),
            body: BASE64_STANDARD.encode(scheme.without_secret(body)),
            tries: 0,
            next: now,
        }
    }

    /// The body, byte by byte as it was sent, but without the secret of the service.
    pub fn body(&self) -> Bytes {
        BASE64_STANDARD.decode(&self.body).unwrap_or_default().into()
    }

    /// About the bytes of its body and its fields.
    pub(crate) fn bytes(&self) -> usize {
        let fields = self.fields.iter().map(|(name, value)| name.len() + value.len());
        self.body.len() / 4 * 3 + fields.sum::<usize>()
    }

    /// The id of its row.
    pub(crate) fn row(&self) -> String {
        row(&self.hook, &self.id)
    }
}

/// The id of the row of an event.
pub(crate) fn row(hook: &HookId, id: &str) -> String {
    format!("{hook}.{id}")
}

/// The id of an event: `hex(SHA-256(id of the service))`, 32 characters. What services send may have any length.
pub(crate) fn id_of(service: &str) -> String {
    let digest = Sha256::digest(service);
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The fields for the program, without credentials and fields that concern only the gateway.
fn forwarded(headers: &HeaderMap, scheme: &Scheme) -> Vec<(String, String)> {
    let mut bytes = 0;
    let is_own = |name: &HeaderName| {
        let text = name.as_str();
        let is_of_way = text.starts_with("x-forwarded-") || text == "x-real-ip";
        let is_ours = text.starts_with("webhook-") || text.starts_with("keyward-");
        NOT_FORWARDED.contains(name) || is_of_way || is_ours || scheme.is_proof(name)
    };
    let texts = headers.iter().filter(|(name, _)| !is_own(name)).filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    let fits = |(name, value): &(String, String)| {
        bytes += name.len() + value.len();
        bytes <= FIELDS_BYTES_MAX
    };
    texts.take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_model::HOOK_BODY_BYTES_MAX;
    use keyward_state::store::VALUE_BYTES_MAX;

    #[test]
    fn the_store_has_room_for_an_event_with_the_longest_body() {
        let body = BASE64_STANDARD.encode(vec![0; HOOK_BODY_BYTES_MAX]).len();
        assert!(body + 2 * FIELDS_BYTES_MAX + 4096 < VALUE_BYTES_MAX, "{body}");
    }

    #[test]
    fn a_row_of_a_version_that_kept_no_delivered_event_is_read_and_written_back_unchanged() {
        let (hook, until) = ("hok_0123456789abcdefghij", "2026-01-02T03:04:05Z");
        let stored = format!(r#"{{"state":"taken","hook":"{hook}","until":"{until}"}}"#);
        let row: EventRow = serde_json::from_str(&stored).unwrap();
        assert!(matches!(row, EventRow::Taken { event: None, .. }), "{row:?}");
        assert_eq!(serde_json::to_string(&row).unwrap(), stored);
    }
}
