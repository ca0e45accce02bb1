//! [`RefusalRecords`]: how many refusals of one sender leave records of their own. Further ones are counted in one record
//! for each code, so that no sender makes the log remove the records of others. The writer of the log writes those.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::event::Event;

/// How long refusals are counted in one record.
const PERIOD: Duration = Duration::from_secs(60);

/// Shared by those who refuse and by the writer.
#[derive(Debug, Default)]
pub(super) struct RefusalRecords(Mutex<RefusalState>);

#[derive(Debug, Default)]
struct RefusalState {
    /// When the current period began, if it has refusals.
    since: Option<Instant>,
    /// Those that left a record of their own, by sender.
    recorded: HashMap<String, u32>,
    /// The records of the others, by sender and code.
    counted: HashMap<(String, String), Event>,
    /// The records of periods that have ended.
    ended: Vec<Event>,
}

impl RefusalRecords {
    /// Whether this refusal leaves a record of its own. Otherwise it is counted: its sender has `max` records in this period.
    pub(super) fn may_record<S: AsRef<str>>(&self, event: &Event<S>, max: u32) -> bool {
        let mut state = self.0.lock();
        state.end_period(false);
        state.since.get_or_insert_with(Instant::now);
        let sender = sender(event);
        let recorded = state.recorded.entry(sender.clone()).or_default();
        if *recorded < max {
            *recorded += 1;
            return true;
        }
        let code = event.code.as_ref().map_or("", S::as_ref).to_owned();
        let all = state.counted.entry((sender, code)).or_insert_with(|| common(event));
        (all.count, all.until) = (Some(all.count.unwrap_or_default() + 1), Some(event.time));
        false
    }

    pub(super) fn are_none(&self) -> bool {
        self.0.lock().since.is_none()
    }

    /// Removes and returns the records of periods that have ended; with `all`, of the current one too.
    pub(super) fn take(&self, all: bool) -> Vec<Event> {
        let mut state = self.0.lock();
        state.end_period(all);
        std::mem::take(&mut state.ended)
    }
}

impl RefusalState {
    /// Ends the period if its time has passed, or in any case.
    fn end_period(&mut self, in_any_case: bool) {
        if in_any_case || self.since.is_some_and(|since| since.elapsed() >= PERIOD) {
            let ended = std::mem::take(self);
            self.ended = ended.ended;
            self.ended.extend(ended.counted.into_values().map(explained));
        }
    }
}

/// The agent, or the hook and what was done there. All clients that have not authenticated are one.
fn sender<S: AsRef<str>>(event: &Event<S>) -> String {
    let text = |text: &Option<S>| text.as_ref().map_or("", S::as_ref).to_owned();
    let change = event.change.as_ref().map(|it| format!("{:?} {}", it.id, it.action));
    [text(&event.org), text(&event.agent), change.unwrap_or_default()].join("/")
}

/// What refusals of the same sender and code have in common.
fn common<S: AsRef<str>>(event: &Event<S>) -> Event {
    let text = |text: &Option<S>| text.as_ref().map(|text| text.as_ref().to_owned());
    let mut all = Event::begun(event.time, event.exchange.as_ref().to_owned());
    (all.org, all.agent, all.code) = (text(&event.org), text(&event.agent), text(&event.code));
    (all.status, all.outcome) = (event.status, event.outcome);
    all.change = event.change.clone();
    all
}

/// With the number as the explanation of a change.
fn explained(mut event: Event) -> Event {
    let words = event.counted();
    if let Some(change) = &mut event.change {
        change.why = words;
    }
    event
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::observe::audit::Audit;
    use crate::observe::change::{Actor, Change};
    use crate::observe::counts::Grouping;
    use crate::observe::event::Outcome;
    use crate::observe::filter::Filter;
    use crate::observe::query::AuditQuery;
    use crate::observe::tests::samples;
    use crate::observe::trail::{Rotation, Trail};

    /// Records of one sender in a period.
    const MAX: u32 = 3;

    fn refusal(agent: Option<&str>, code: &str, n: u64) -> Event {
        Event {
            agent: agent.map(str::to_owned),
            code: Some(code.to_owned()),
            status: Some(403),
            outcome: Outcome::Refused,
            ..samples::event(n)
        }
    }

    async fn refuse(audit: &Audit, event: &Event) {
        audit.send_refusal(audit.reserve().await.unwrap(), event, MAX);
    }

    /// Ends the current minute.
    fn end_period(audit: &Audit) {
        let mut state = audit.refusals.0.lock();
        state.since = state.since.map(|since| since - PERIOD);
    }

    /// The records, oldest first, after the chain was verified.
    fn records(trail: &Trail) -> Vec<Event> {
        assert_eq!(trail.verify(|| true).unwrap().broken, None);
        let query = AuditQuery { limit: 1_000, ..AuditQuery::default() };
        let mut records = trail.query(&query, || true).unwrap().records;
        records.reverse();
        records
    }

    fn counts(records: &[Event]) -> Vec<(Option<&str>, &str, u64)> {
        let counted = records
            .iter()
            .filter_map(|it| Some((it.agent.as_deref(), it.code.as_deref().unwrap(), it.count?)));
        let mut counted: Vec<_> = counted.collect();
        counted.sort_unstable();
        counted
    }

    #[tokio::test]
    async fn refusals_beyond_the_rate_of_their_sender_are_one_record_for_each_code() {
        let (_folder, trail) = samples::empty();
        let (audit, writer) = Audit::open(trail.clone(), Rotation::default(), 8, false).unwrap();
        for n in 0..50 {
            refuse(&audit, &refusal(Some("ci"), "default_deny", n)).await;
            refuse(&audit, &refusal(None, "agent_unauthenticated", n)).await;
        }
        refuse(&audit, &refusal(Some("ci"), "denied", 50)).await;
        for n in 51..54 {
            refuse(&audit, &refusal(Some("dev"), "default_deny", n)).await;
        }
        drop(audit);
        writer.finish();
        let found = records(&trail);
        let own = found.iter().filter(|it| it.count.is_none()).count();
        assert_eq!(own, 9, "three of each sender");
        assert_eq!(
            counts(&found),
            [
                (None, "agent_unauthenticated", 47),
                (Some("ci"), "default_deny", 47),
                (Some("ci"), "denied", 1)
            ]
        );
        let of_ci = found.iter().find(|it| it.count == Some(47) && it.agent.is_some()).unwrap();
        let second = |second: i64| Timestamp::from_second(second).unwrap();
        assert_eq!((of_ci.time, of_ci.exchange.as_str()), (second(3), "exc_3"), "the first one");
        assert_eq!(of_ci.until, Some(second(49)), "the last one");
        assert_eq!((of_ci.outcome, of_ci.status), (Outcome::Refused, Some(403)));
        assert_eq!((&of_ci.target, &of_ci.path), (&None, &None));
        let (counts, _) = trail.count(&Filter::default(), Grouping::Agent, None, || true).unwrap();
        let groups = counts.into_groups().0.into_iter();
        let of_ci = groups.into_iter().find(|group| group.name.as_deref() == Some("ci")).unwrap();
        assert_eq!((of_ci.count, of_ci.last), (51, second(50)));
    }

    /// Also where no further record wakes the writer, and where the queue has a single place.
    #[tokio::test]
    async fn the_record_of_counted_refusals_is_written_when_their_minute_ends() {
        let (_folder, trail) = samples::empty();
        let (audit, writer) = Audit::open(trail.clone(), Rotation::default(), 1, false).unwrap();
        let refuse_five = async || {
            for n in 0..5 {
                refuse(&audit, &refusal(Some("ci"), "default_deny", n)).await;
            }
        };
        let written = async || {
            audit.write_counted_refusals();
            audit.wait_until_readable().await;
            records(&trail).iter().filter_map(|it| it.count).collect::<Vec<_>>()
        };
        refuse_five().await;
        refuse_five().await;
        assert_eq!(written().await, [0; 0]);
        end_period(&audit);
        assert_eq!(written().await, [7]);
        assert_eq!(written().await, [7], "once");
        refuse_five().await;
        end_period(&audit);
        // The next refusal begins another minute.
        refuse_five().await;
        assert_eq!(written().await, [7, 2]);
        drop(audit);
        writer.finish();
        let found = records(&trail);
        assert_eq!(found.iter().filter_map(|it| it.count).collect::<Vec<_>>(), [7, 2, 2]);
        assert_eq!(found.len(), 3 * 3 + 3);
    }

    #[tokio::test]
    async fn each_hook_has_its_own_records_and_the_last_one_says_how_many_more_there_were() {
        let (_folder, trail) = samples::empty();
        let (audit, writer) = Audit::open(trail.clone(), Rotation::default(), 8, false).unwrap();
        let request = |hook: &str, action: &str, n| {
            let change = Change::new(&Actor::Gateway, "hook", action).of(hook, hook);
            let change = Some(Box::new(change.because("no signature")));
            Event { change, ..refusal(None, "signature_missing", n) }
        };
        for n in 0..10 {
            refuse(&audit, &request("a", "request refused", n)).await;
        }
        refuse(&audit, &request("a", "request repeated", 10)).await;
        refuse(&audit, &request("b", "request refused", 11)).await;
        drop(audit);
        writer.finish();
        let found = records(&trail);
        let why = |it: &Event| it.change.clone().unwrap().why.unwrap();
        let more: Vec<_> = found.iter().filter(|it| it.count.is_some()).map(why).collect();
        assert_eq!(more, ["7 more until 1970-01-01T00:00:09Z"]);
        assert_eq!(found.len(), 3 + 1 + 2);
    }
}
