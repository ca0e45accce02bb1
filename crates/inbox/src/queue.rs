//! [`InboxQueue`]: the waiting events in order of arrival. In memory, without their requests; the store has both.
//! [`HookStatus`] is the state of a hook since the start of the process, and [`SecretStatus`] that of its secret.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use jiff::Timestamp;

use super::event::{
    EVENTS_BYTES_MAX, EventList, EventRow, HookEvent, KEPT_BYTES_MAX, SettledEvent, SettledEvents,
};
use keyward_base::id::{HookId, OrgId};
use keyward_model::{DeliveryAttempt, HookRefusal};
use keyward_state::store::Version;

/// Ids of delivered events that are remembered for each hook; the oldest are forgotten first.
const TAKEN_MAX: usize = 100_000;

/// The events of all hooks.
#[derive(Debug, Default)]
pub(crate) struct InboxQueue {
    hooks: HashMap<HookId, HookQueue>,
    /// Orders events of the same time.
    count: u64,
}

/// The events of one hook.
#[derive(Debug, Default)]
struct HookQueue {
    waiting: BTreeMap<EventPosition, WaitingEvent>,
    /// Where the events are in `waiting`, by id.
    places: HashMap<String, EventPosition>,
    /// The bytes of those in `waiting`.
    waiting_bytes: usize,
    dead: SettledEvents<()>,
    /// Delivered events, by the time until which they are remembered.
    taken: BTreeMap<(Timestamp, String), (OrgId, Version)>,
    /// Delivered events whose requests are kept, with the time until which they are remembered.
    kept: SettledEvents<(Timestamp, Version)>,
    /// The last place that a reader has reached.
    read_to: Option<EventPosition>,
    is_delivering: bool,
    last: Option<DeliveryAttempt>,
    refused: Option<HookRefusal>,
}

/// The place of an event: by time, and by the order in which they came. Readers do not go back, so an event that is
/// queued late, such as one whose write took longer or that is sent again, comes after what they have read.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct EventPosition(Timestamp, u64);

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct WaitingEvent {
    pub(crate) org: OrgId,
    pub(crate) id: String,
    /// When it was accepted.
    pub(crate) received: Timestamp,
    /// Not before then.
    pub(crate) next: Timestamp,
    pub(crate) bytes: usize,
}

/// What the queue keeps of a row.
#[derive(Clone, Debug)]
pub(crate) enum QueueEntry {
    Waiting(HookId, WaitingEvent),
    Dead(HookId, SettledEvent),
    Taken(HookId, TakenEvent),
}

/// An event that was delivered.
#[derive(Clone, Debug)]
pub(crate) struct TakenEvent {
    pub(crate) id: String,
    /// It is remembered until then.
    pub(crate) until: Timestamp,
    /// Of its row.
    pub(crate) version: Version,
    /// The event, if its request is kept.
    pub(crate) kept: Option<SettledEvent>,
}

impl WaitingEvent {
    pub(crate) fn of(org: &OrgId, event: &HookEvent) -> Self {
        Self {
            org: org.clone(),
            id: event.id.clone(),
            received: event.received,
            next: event.next,
            bytes: event.bytes(),
        }
    }
}

impl QueueEntry {
    /// `id`, `version`: those of the row.
    pub(crate) fn of(org: &OrgId, id: &str, row: EventRow, version: Version) -> Self {
        match row {
            EventRow::Waiting(event) => {
                let waiting = WaitingEvent::of(org, &event);
                Self::Waiting(event.hook, waiting)
            }
            EventRow::Dead { event, .. } => {
                let dead = SettledEvent::of(&event);
                Self::Dead(event.hook, dead)
            }
            EventRow::Taken { hook, until, event } => {
                let id = id.rsplit('.').next().unwrap_or_default().to_owned();
                let kept = event.as_deref().map(SettledEvent::of);
                Self::Taken(hook, TakenEvent { id, until, version, kept })
            }
        }
    }

    pub(crate) fn hook(&self) -> &HookId {
        match self {
            Self::Waiting(hook, _) | Self::Dead(hook, _) | Self::Taken(hook, _) => hook,
        }
    }

    /// By which the entries of a start are ordered.
    pub(crate) fn time(&self) -> Timestamp {
        match self {
            Self::Waiting(_, event) => event.received,
            Self::Dead(_, event) => event.received,
            Self::Taken(_, taken) => taken.until,
        }
    }
}

impl InboxQueue {
    /// Adds what was read from the store.
    pub(crate) fn add(&mut self, org: &OrgId, entry: QueueEntry) {
        match entry {
            QueueEntry::Waiting(hook, event) => self.push(&hook, event),
            QueueEntry::Dead(hook, event) => self.dead(&hook, event),
            QueueEntry::Taken(hook, taken) => {
                self.remove_delivered(&hook, org, taken);
            }
        }
    }

    pub(crate) fn push(&mut self, hook: &HookId, waiting: WaitingEvent) {
        self.count += 1;
        let line = self.hooks.entry(hook.clone()).or_default();
        let received = waiting.received;
        let time = line.read_to.map_or(received, |EventPosition(read, _)| read.max(received));
        let place = EventPosition(time, self.count);
        // The event may have arrived while the stored events were being read.
        if line.places.contains_key(&waiting.id) {
            return;
        }
        line.remove_settled(&waiting.id);
        line.places.insert(waiting.id.clone(), place);
        line.waiting_bytes += waiting.bytes;
        line.waiting.insert(place, waiting);
    }

    /// Whether no further event may wait: there are `most`, or their bytes are [`EVENTS_BYTES_MAX`].
    pub(crate) fn is_full(&self, hook: &HookId, most: usize) -> bool {
        let is_full =
            |line: &HookQueue| line.waiting.len() >= most || line.waiting_bytes >= EVENTS_BYTES_MAX;
        self.hooks.get(hook).is_some_and(is_full)
    }

    /// Events of all hooks that wait, and those whose deliveries all failed.
    pub(crate) fn totals(&self) -> (usize, usize) {
        let lines = self.hooks.values();
        lines.fold((0, 0), |(waiting, dead), line| {
            (waiting + line.waiting.len(), dead + line.dead.len())
        })
    }

    /// Begins the delivery that is due longest and returns its event, or else when the next one is due. Each hook has one
    /// delivery at a time, so that events stay in order.
    pub(crate) fn begin(
        &mut self,
        now: Timestamp,
        may: impl Fn(&OrgId, &HookId) -> bool,
    ) -> Result<(HookId, WaitingEvent), Option<Timestamp>> {
        let idle = self.hooks.iter().filter(|(_, line)| !line.is_delivering);
        let firsts = idle.filter_map(|(hook, line)| Some((hook, line.waiting.values().next()?)));
        let allowed = firsts.filter(|(hook, first)| may(&first.org, hook));
        let Some((hook, first)) = allowed.min_by_key(|(_, first)| first.next) else {
            return Err(None);
        };
        if first.next > now {
            return Err(Some(first.next));
        }
        let begun = (hook.clone(), first.clone());
        if let Some(line) = self.hooks.get_mut(&begun.0) {
            line.is_delivering = true;
        }
        Ok(begun)
    }

    pub(crate) fn end(&mut self, hook: &HookId, last: Option<DeliveryAttempt>) {
        let Some(line) = self.hooks.get_mut(hook) else { return };
        line.is_delivering = false;
        line.last = last.or(line.last.take());
    }

    /// Postpones the delivery of an event.
    pub(crate) fn postpone(&mut self, hook: &HookId, id: &str, next: Timestamp) {
        let Some(line) = self.hooks.get_mut(hook) else { return };
        let found = line.places.get(id).and_then(|place| line.waiting.get_mut(place));
        if let Some(found) = found {
            found.next = next;
        }
    }

    /// Removes an event that was delivered, and remembers its id. Returns the ids that are remembered no more, with the
    /// versions of their rows.
    pub(crate) fn remove_delivered(
        &mut self,
        hook: &HookId,
        org: &OrgId,
        TakenEvent { id, until, version, kept }: TakenEvent,
    ) -> Vec<(String, Version)> {
        let line = self.hooks.entry(hook.clone()).or_default();
        line.remove(&id);
        line.remove_settled(&id);
        if let Some(kept) = kept {
            line.kept.insert(kept, (until, version));
        }
        line.taken.insert((until, id), (org.clone(), version));
        let mut forgotten = Vec::new();
        while line.taken.len() > TAKEN_MAX
            && let Some(((_, oldest), (_, version))) = line.taken.pop_first()
        {
            forgotten.extend((!line.kept.has(&oldest)).then_some((oldest, version)));
        }
        forgotten
    }

    /// Moves an event to the dead ones, because all its deliveries failed.
    pub(crate) fn dead(&mut self, hook: &HookId, event: SettledEvent) {
        let line = self.hooks.entry(hook.clone()).or_default();
        line.remove(&event.id);
        line.dead.insert(event, ());
    }

    /// Removes an event.
    pub(crate) fn remove(&mut self, hook: &HookId, id: &str) {
        if let Some(line) = self.hooks.get_mut(hook) {
            line.remove(id);
            line.remove_settled(id);
        }
    }

    /// Removes and returns the remembered ids that have expired, unless their events are kept.
    pub(crate) fn expired(&mut self, now: Timestamp) -> Vec<(OrgId, HookId, String, Version)> {
        let mut expired = Vec::new();
        for (hook, line) in &mut self.hooks {
            while let Some(first) = line.taken.first_entry()
                && first.key().0 <= now
            {
                let ((_, id), (org, version)) = first.remove_entry();
                if !line.kept.has(&id) {
                    expired.push((org, hook.clone(), id, version));
                }
            }
        }
        expired
    }

    /// The first ids of a list, in its order, or those after one of them; at most `most`. `None`: that one is not there.
    pub(crate) fn ids(
        &self,
        hook: &HookId,
        list: EventList,
        after: Option<&str>,
        most: usize,
    ) -> Option<Vec<String>> {
        let Some(line) = self.hooks.get(hook) else {
            return Some(vec![]).filter(|_| after.is_none());
        };
        let mut ids: Box<dyn Iterator<Item = &String>> = match list {
            EventList::Waiting => Box::new(line.waiting.values().map(|it| &it.id)),
            EventList::Dead => Box::new(line.dead.ids()),
            EventList::Delivered => Box::new(line.kept.ids().rev()),
        };
        if let Some(after) = after {
            ids.find(|id| *id == after)?;
        }
        Some(ids.take(most).cloned().collect())
    }

    /// Gives a reader the next event that waits after this place.
    pub(crate) fn read_after(
        &mut self,
        hook: &HookId,
        after: Option<EventPosition>,
    ) -> Option<(EventPosition, String)> {
        let line = self.hooks.get_mut(hook)?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (place, waiting) = line.waiting.range((from, Bound::Unbounded)).next()?;
        let read = (*place, waiting.id.clone());
        line.read_to = line.read_to.max(Some(read.0));
        Some(read)
    }

    /// The oldest of the dead events, if there are more than `most`, or too many bytes.
    pub(crate) fn excess_dead(&self, hook: &HookId, most: usize) -> Vec<String> {
        let line = self.hooks.get(hook).into_iter();
        let excess = line.flat_map(|line| line.dead.excess(most, EVENTS_BYTES_MAX));
        excess.map(|(id, ())| id).collect()
    }

    /// The oldest of the kept events, if there are more than `most`, or too many bytes: without their requests.
    pub(crate) fn excess_kept(&self, hook: &HookId, most: usize) -> Vec<TakenEvent> {
        let line = self.hooks.get(hook).into_iter();
        let excess = line.flat_map(|line| line.kept.excess(most, KEPT_BYTES_MAX));
        let taken = |(id, (until, version))| TakenEvent { id, until, version, kept: None };
        excess.map(taken).collect()
    }

    pub(crate) fn refused(&mut self, hook: &HookId, refusal: HookRefusal) {
        self.hooks.entry(hook.clone()).or_default().refused = Some(refusal);
    }

    pub(crate) fn forget(&mut self, hook: &HookId) {
        self.hooks.remove(hook);
    }

    pub(crate) fn status(&self, hook: &HookId) -> HookStatus {
        let Some(line) = self.hooks.get(hook) else { return HookStatus::default() };
        HookStatus {
            waiting: line.waiting.len(),
            dead: line.dead.len(),
            delivered: line.kept.len(),
            last: line.last.clone(),
            refused: line.refused.clone(),
        }
    }
}

impl HookQueue {
    fn remove(&mut self, id: &str) {
        let place = self.places.remove(id);
        if let Some(removed) = place.and_then(|place| self.waiting.remove(&place)) {
            self.waiting_bytes -= removed.bytes;
        }
    }

    /// Removes an event that does not wait.
    fn remove_settled(&mut self, id: &str) {
        self.dead.remove(id);
        self.kept.remove(id);
    }
}

/// The state of a hook since the start of this process.
#[derive(Clone, Debug, Default)]
pub struct HookStatus {
    /// Events that wait.
    pub waiting: usize,
    /// Events whose deliveries all failed.
    pub dead: usize,
    /// Delivered events that are kept.
    pub delivered: usize,
    pub last: Option<DeliveryAttempt>,
    /// The last refused request.
    pub refused: Option<HookRefusal>,
}

/// The secret of a hook, without the secret itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SecretStatus {
    /// Whether it is stored, or the scheme has none.
    pub is_known: bool,
    /// What a person enters at the service beside the URL, where it asks for it.
    pub verify_token: Option<String>,
    /// Whether it may be shown, because it must be entered at the service.
    pub can_reveal: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// An event that was accepted at this time, without a body.
    fn waiting(id: &str, second: i64) -> WaitingEvent {
        let (org, id) = (OrgId::default_org(), id.to_owned());
        WaitingEvent { org, id, received: at(second), next: at(second), bytes: 0 }
    }

    #[test]
    fn a_hook_is_full_while_events_of_too_many_bytes_wait() {
        let (mut queue, hook) = (InboxQueue::default(), HookId::random());
        assert!(!queue.is_full(&hook, 1));
        let bytes = EVENTS_BYTES_MAX / 2;
        for id in ["1", "1", "2"] {
            assert!(!queue.is_full(&hook, 9));
            queue.push(&hook, WaitingEvent { bytes, ..waiting(id, 1) });
        }
        assert!(queue.is_full(&hook, 9));
        queue.dead(&hook, SettledEvent { id: "2".to_owned(), received: at(1), bytes });
        assert!(!queue.is_full(&hook, 9) && queue.is_full(&hook, 1));
        queue.push(&hook, WaitingEvent { bytes, ..waiting("2", 1) });
        assert!(queue.is_full(&hook, 9));
        queue.remove(&hook, "1");
        queue.remove(&hook, "1");
        assert!(!queue.is_full(&hook, 9));
    }

    #[test]
    fn the_delivery_that_is_due_longest_begins_first_and_the_next_one_when_it_is_due() {
        let mut queue = InboxQueue::default();
        let hooks: Vec<_> = (0..8).map(|_| HookId::random()).collect();
        for (second, hook) in (0..).zip(&hooks) {
            let received = Timestamp::UNIX_EPOCH;
            queue.push(hook, WaitingEvent { received, ..waiting("1", second) });
        }
        for hook in &hooks[..7] {
            assert_eq!(queue.begin(at(6), |_, _| true).unwrap().0, *hook);
        }
        assert_eq!(queue.begin(at(6), |_, _| true).unwrap_err(), Some(at(7)));
    }

    #[test]
    fn a_reader_gets_events_that_are_queued_with_an_earlier_time_than_it_has_read() {
        let (mut queue, hook) = (InboxQueue::default(), HookId::random());
        let push = |queue: &mut InboxQueue, second: i64, id: &str| {
            queue.push(&hook, waiting(id, second));
        };
        push(&mut queue, 2, "second");
        push(&mut queue, 4, "fourth");
        let (mut place, first) = queue.read_after(&hook, None).unwrap();
        assert_eq!(first, "second");
        push(&mut queue, 3, "third");
        push(&mut queue, 1, "first");
        let mut rest = Vec::new();
        while let Some((next, id)) = queue.read_after(&hook, Some(place)) {
            place = next;
            rest.push(id);
        }
        assert_eq!(rest, ["first", "third", "fourth"]);
    }
}
