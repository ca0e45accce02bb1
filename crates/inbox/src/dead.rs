//! [`DeadEvents`]: the events of one hook whose deliveries all failed. In memory, without their requests; the store has
//! both. Their number and bytes are bounded: the oldest ones are removed.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::event::{EVENTS_BYTES_MAX, HookEvent};

/// The events of one hook whose deliveries all failed, by age.
#[derive(Debug, Default)]
pub(crate) struct DeadEvents {
    /// The bytes of each.
    by_age: BTreeMap<(Timestamp, String), usize>,
    /// When each was accepted, by id.
    received: HashMap<String, Timestamp>,
    /// The bytes of all.
    bytes: usize,
}

/// An event whose deliveries all failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct DeadEvent {
    pub(crate) id: String,
    /// When it was accepted.
    pub(crate) received: Timestamp,
    pub(crate) bytes: usize,
}

impl DeadEvent {
    pub(crate) fn of(event: &HookEvent) -> Self {
        Self { id: event.id.clone(), received: event.received, bytes: event.bytes() }
    }
}

impl DeadEvents {
    pub(crate) fn insert(&mut self, DeadEvent { id, received, bytes }: DeadEvent) {
        self.remove(&id);
        self.received.insert(id.clone(), received);
        self.by_age.insert((received, id), bytes);
        self.bytes += bytes;
    }

    pub(crate) fn remove(&mut self, id: &str) {
        let Some((id, received)) = self.received.remove_entry(id) else { return };
        self.bytes -= self.by_age.remove(&(received, id)).unwrap_or_default();
    }

    pub(crate) fn len(&self) -> usize {
        self.by_age.len()
    }

    /// The ids, the oldest first.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &String> {
        self.by_age.keys().map(|(_, id)| id)
    }

    /// The oldest ones, without which there are at most `most`, of at most [`EVENTS_BYTES_MAX`].
    pub(crate) fn excess(&self, most: usize) -> Vec<String> {
        let (mut left, mut left_bytes) = (self.len(), self.bytes);
        let mut excess = Vec::new();
        for ((_, id), bytes) in &self.by_age {
            if left <= most && left_bytes <= EVENTS_BYTES_MAX {
                break;
            }
            left -= 1;
            left_bytes -= bytes;
            excess.push(id.clone());
        }
        excess
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events of these bytes, which were accepted in this order.
    fn dead(bytes: &[usize]) -> DeadEvents {
        let mut dead = DeadEvents::default();
        for (second, &bytes) in (1..).zip(bytes) {
            let received = Timestamp::from_second(second).unwrap();
            dead.insert(DeadEvent { id: second.to_string(), received, bytes });
        }
        dead
    }

    #[test]
    fn the_oldest_events_beyond_the_number_or_the_bytes_are_the_excess() {
        let half = EVENTS_BYTES_MAX / 2;
        let cases: [(&[usize], usize, &[&str]); 6] = [
            (&[], 1, &[]),
            (&[0, 0], 2, &[]),
            (&[0, 0, 0], 1, &["1", "2"]),
            (&[half, half], 2, &[]),
            (&[half, half, 1], 3, &["1"]),
            (&[1, half, half], 3, &["1"]),
        ];
        for (bytes, most, excess) in cases {
            assert_eq!(dead(bytes).excess(most), excess, "{bytes:?}, {most}");
        }
    }

    #[test]
    fn an_event_that_left_or_came_twice_counts_once() {
        let mut events = dead(&[EVENTS_BYTES_MAX, EVENTS_BYTES_MAX]);
        let received = Timestamp::from_second(9).unwrap();
        events.insert(DeadEvent { id: "1".to_owned(), received, bytes: 1 });
        events.remove("2");
        events.remove("2");
        assert_eq!((events.len(), events.excess(1)), (1, vec![]));
    }
}
