//! Test data: audit logs.

use jiff::{SignedDuration, Timestamp};

use crate::observe::audit::Audit;
use crate::observe::event::Event;
use crate::observe::trail::{Rotation, Trail};

/// An event of agents `ci` and `dev` alternately; `n` is its second and part of its id.
pub(in crate::observe) fn event(n: u64) -> Event {
    let second = SignedDuration::from_secs(i64::try_from(n).unwrap());
    let mut event = Event::begun(Timestamp::UNIX_EPOCH + second, format!("exc_{n}"));
    event.agent = Some(if n % 2 == 1 { "ci" } else { "dev" }.to_owned());
    event
}

/// Writes `count` events and waits until they are in the files.
pub(in crate::observe) async fn write(trail: &Trail, rotation: Rotation, count: u64) {
    let (audit, writer) = Audit::open(trail.clone(), rotation, 8, false).unwrap();
    let before = *audit.written().borrow();
    for n in 1..=count {
        audit.reserve().await.unwrap().send(event(before + n).entry());
    }
    drop(audit);
    writer.finish();
}
