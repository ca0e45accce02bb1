//! [`SettledEvents`]: the events of one hook that do not wait: their deliveries all failed, or they were delivered and are
//! kept. In memory, without their requests; the store has both. Their number and bytes are bounded: the oldest ones are
//! removed.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::event::HookEvent;

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
