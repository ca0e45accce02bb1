//! [`HookEvent`]: a verified request of a service, and the row of it. The row outlives the delivery, without the
//! request, for as long as the service's request could be repeated.
//!
//! [`SettledEvents`] are the events of one hook that do not wait: their deliveries all failed, or they were delivered
//! and are kept. In memory, without their requests; the store has both. Their number and bytes are bounded: the oldest
//! ones are removed.

use std::collections::{BTreeMap, HashMap};

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

/// Events of one hook in the same state, by age. Each has a `T`.
#[derive(Debug)]
pub(crate) struct SettledEvents<T> {
    /// With the bytes of each.
    by_age: BTreeMap<(Timestamp, String), (usize, T)>,
    /// When each was accepted, by id.
    received: HashMap<String, Timestamp>,
    /// The bytes of all.
    bytes: usize,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SettledEvent {
    pub(crate) id: String,
    /// When it was accepted.
    pub(crate) received: Timestamp,
    pub(crate) bytes: usize,
}

impl SettledEvent {
    pub(crate) fn of(event: &HookEvent) -> Self {
        Self { id: event.id.clone(), received: event.received, bytes: event.bytes() }
    }
}

impl<T> Default for SettledEvents<T> {
    fn default() -> Self {
        Self { by_age: BTreeMap::new(), received: HashMap::new(), bytes: 0 }
    }
}

impl<T: Copy> SettledEvents<T> {
    pub(crate) fn insert(&mut self, SettledEvent { id, received, bytes }: SettledEvent, with: T) {
        self.remove(&id);
        self.received.insert(id.clone(), received);
        self.by_age.insert((received, id), (bytes, with));
        self.bytes += bytes;
    }

    pub(crate) fn remove(&mut self, id: &str) {
        let Some((id, received)) = self.received.remove_entry(id) else { return };
        self.bytes -= self.by_age.remove(&(received, id)).map_or(0, |(bytes, _)| bytes);
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.received.contains_key(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_age.len()
    }

    /// The ids, the oldest first.
    pub(crate) fn ids(&self) -> impl DoubleEndedIterator<Item = &String> {
        self.by_age.keys().map(|(_, id)| id)
    }

    /// The oldest ones, without which there are at most `most`, of at most `bytes_max`.
    pub(crate) fn excess(&self, most: usize, bytes_max: usize) -> Vec<(String, T)> {
        let (mut left, mut left_bytes) = (self.len(), self.bytes);
        let mut excess = Vec::new();
        for ((_, id), (bytes, with)) in &self.by_age {
            if left <= most && left_bytes <= bytes_max {
                break;
            }
            left -= 1;
            left_bytes -= bytes;
            excess.push((id.clone(), *with));
        }
        excess
    }
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

    const BYTES_MAX: usize = 1_000;

    /// Events of these bytes, which were accepted in this order.
    fn events(bytes: &[usize]) -> SettledEvents<()> {
        let mut events = SettledEvents::default();
        for (second, &bytes) in (1..).zip(bytes) {
            let received = Timestamp::from_second(second).unwrap();
            events.insert(SettledEvent { id: second.to_string(), received, bytes }, ());
        }
        events
    }

    fn excess(events: &SettledEvents<()>, most: usize) -> Vec<String> {
        events.excess(most, BYTES_MAX).into_iter().map(|(id, ())| id).collect()
    }

    #[test]
    fn the_oldest_events_beyond_the_number_or_the_bytes_are_the_excess() {
        let half = BYTES_MAX / 2;
        let cases: [(&[usize], usize, &[&str]); 6] = [
            (&[], 1, &[]),
            (&[0, 0], 2, &[]),
            (&[0, 0, 0], 1, &["1", "2"]),
            (&[half, half], 2, &[]),
            (&[half, half, 1], 3, &["1"]),
            (&[1, half, half], 3, &["1"]),
        ];
        for (bytes, most, expected) in cases {
            assert_eq!(excess(&events(bytes), most), expected, "{bytes:?}, {most}");
        }
    }

    #[test]
    fn an_event_that_left_or_came_twice_counts_once() {
        let mut events = events(&[BYTES_MAX, BYTES_MAX]);
        let received = Timestamp::from_second(9).unwrap();
        events.insert(SettledEvent { id: "1".to_owned(), received, bytes: 1 }, ());
        events.remove("2");
        events.remove("2");
        assert_eq!((events.len(), excess(&events, 1)), (1, vec![]));
        assert!(events.has("1") && !events.has("2"));
    }
}
