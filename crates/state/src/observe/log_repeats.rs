//! [`RepeatLimit`]: a layer that bounds how often a warning or an error is logged, and logs how many it suppressed. A
//! store that fails would else fill a disk with the same line for each request.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one kind, which is a place in the program, within [`PERIOD`].
const LINES_MAX: u64 = 60;

const PERIOD: Duration = Duration::from_secs(60);

/// Suppresses warnings and errors above the limit, for all layers.
#[derive(Debug, Default)]
pub(super) struct RepeatLimit(Mutex<HashMap<Identifier, RepeatCount>>);

/// The lines of one kind in the current period.
#[derive(Debug)]
struct RepeatCount {
    began: Instant,
    lines: u64,
}

/// What becomes of a line.
#[derive(Debug, Eq, PartialEq)]
enum LineFate {
    Logged,
    /// So many were suppressed in the period before.
    LoggedAfter(u64),
    FirstSuppressed,
    Suppressed,
}

impl RepeatCount {
    fn new(now: Instant) -> Self {
        Self { began: now, lines: 0 }
    }

    fn count(&mut self, now: Instant) -> LineFate {
        let suppressed = match now.duration_since(self.began) >= PERIOD {
            true => std::mem::replace(self, Self::new(now)).lines.saturating_sub(LINES_MAX),
            false => 0,
        };
        self.lines += 1;
        match self.lines {
            _ if suppressed > 0 => LineFate::LoggedAfter(suppressed),
            ..=LINES_MAX => LineFate::Logged,
            lines if lines == LINES_MAX + 1 => LineFate::FirstSuppressed,
            _ => LineFate::Suppressed,
        }
    }
}

impl<S: Subscriber> Layer<S> for RepeatLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if *event.metadata().level() > Level::WARN {
            return true;
        }
        let now = Instant::now();
        let kind = event.metadata().callsite();
        let fate = self.0.lock().entry(kind).or_insert_with(|| RepeatCount::new(now)).count(now);
        let seconds = PERIOD.as_secs();
        match fate {
            LineFate::Logged => true,
            LineFate::LoggedAfter(count) => {
                tracing::warn!(
                    id = "log_suppressed",
                    count,
                    "lines of the kind of the next one were suppressed"
                );
                true
            }
            LineFate::FirstSuppressed => {
                tracing::warn!(
                    id = "log_suppressed",
                    "more than {LINES_MAX} lines of the kind of the last one within {seconds} s: further ones are suppressed until then"
                );
                false
            }
            LineFate::Suppressed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn lines_above_the_limit_are_suppressed_and_counted_until_the_period_has_ended() {
        let began = Instant::now();
        let mut count = RepeatCount::new(began);
        for _ in 0..LINES_MAX {
            assert_eq!(count.count(began), LineFate::Logged);
        }
        let last = began + PERIOD - Duration::from_millis(1);
        assert_eq!(count.count(last), LineFate::FirstSuppressed);
        assert_eq!(count.count(last), LineFate::Suppressed);
        assert_eq!(count.count(began + PERIOD), LineFate::LoggedAfter(2));
        assert_eq!(count.count(began + PERIOD), LineFate::Logged);
        assert_eq!(count.count(began + 3 * PERIOD), LineFate::Logged, "none was suppressed");
    }

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<Level>>>);

    impl<S: Subscriber> Layer<S> for Seen {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().push(*event.metadata().level());
        }
    }

    #[test]
    fn each_place_has_its_own_limit_and_lines_for_information_have_none() {
        let seen = Seen::default();
        let registry = tracing_subscriber::registry().with(RepeatLimit::default());
        let logging = tracing::subscriber::set_default(registry.with(seen.clone()));
        let sent = LINES_MAX + 5;
        for _ in 0..sent {
            tracing::error!("one place");
            tracing::warn!("another place");
            tracing::info!("a request was refused");
        }
        drop(logging);
        let of = |level| seen.0.lock().iter().filter(|one| **one == level).count() as u64;
        assert_eq!([of(Level::ERROR), of(Level::INFO)], [LINES_MAX, sent]);
        // The notes of what is suppressed are warnings too.
        assert!((LINES_MAX..sent).contains(&of(Level::WARN)));
    }
}
