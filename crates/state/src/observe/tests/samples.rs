//! Test data: audit logs.

use jiff::{SignedDuration, Timestamp};

use crate::observe::audit::Audit;
use crate::observe::event::Event;
use crate::observe::trail::{Rotation, Trail};

/// Three records per file.
pub(in crate::observe) const SMALL: Rotation = Rotation { file_bytes_max: 1_300, files_max: 100 };

/// An event of agents `ci` and `dev` alternately; `n` is its second and part of its id.
pub(in crate::observe) fn event(n: u64) -> Event {
    let second = SignedDuration::from_secs(i64::try_from(n).unwrap());
    let mut event = Event::begun(Timestamp::UNIX_EPOCH + second, format!("exc_{n}"));
    event.agent = Some(if n % 2 == 1 { "ci" } else { "dev" }.to_owned());
    event
}

/// A log whose file does not exist yet.
pub(in crate::observe) fn empty() -> (tempfile::TempDir, Trail) {
    let folder = tempfile::tempdir().unwrap();
    let trail = Trail::at(&folder.path().join("audit.jsonl"));
    (folder, trail)
}

/// A log of `count` events, three per file.
pub(in crate::observe) async fn log(count: u64) -> (tempfile::TempDir, Trail) {
    let (folder, trail) = empty();
    write(&trail, SMALL, count).await;
    assert_eq!(trail.full().unwrap().len() as u64, (count - 1) / 3, "files of three");
    (folder, trail)
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
