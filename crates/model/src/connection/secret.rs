//! Metadata of a connection's secret: when it is due for rotation, and a rotation in progress.

use jiff::{SignedDuration, Timestamp};
use keyward_base::names::named_enum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Days before the end of a secret at which people are reminded, from the first on.
pub const REMIND_DAYS: [i64; 3] = [14, 7, 1];

/// People were reminded.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Reminder {
    /// That it is due then.
    pub due: Timestamp,
    /// One of [`REMIND_DAYS`], or 0 once it is over.
    pub days: i64,
}

/// A second secret is sealed beside the one in force.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Rotation {
    /// Which.
    pub state: RotationState,
    /// Since when.
    pub since: Timestamp,
    /// It is wiped then.
    pub until: Timestamp,
}

/// What the second secret is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RotationState {
    /// A new one that is tested; the old one is in force.
    Testing,
    /// The old one, kept for a rollback; the new one is in force.
    Unconfirmed,
}

/// When and why a secret has to be replaced.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ReplacementDue {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: ReplacementReason,
}

named_enum! {
    /// Why a secret has to be replaced.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub enum ReplacementReason by code {
        /// It ends.
        Expires = "expires",
        /// Its rotation interval ends.
        RotateEvery = "rotate_every",
    }
}

impl ReplacementDue {
    /// Whole days that are left; negative once it is over.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        let day = SignedDuration::from_hours(24).as_secs();
        self.at.duration_since(now).as_secs().div_euclid(day)
    }

    /// Whether people are reminded now.
    pub fn is_near(&self, now: Timestamp) -> bool {
        self.days_left(now) < REMIND_DAYS[0]
    }

    /// The reminder that is in force: the smallest of [`REMIND_DAYS`] that has been reached, 0 once it
    /// is over; `None` before the first.
    pub fn reminder(&self, now: Timestamp) -> Option<i64> {
        if self.at <= now {
            return Some(0);
        }
        let left = self.days_left(now);
        REMIND_DAYS.into_iter().filter(|days| left < *days).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(count: i64) -> SignedDuration {
        SignedDuration::from_hours(24 * count)
    }

    #[test]
    fn reminders_come_at_two_weeks_one_week_a_day_and_the_end() {
        let at = Timestamp::UNIX_EPOCH + days(100);
        let due = ReplacementDue { at, why: ReplacementReason::Expires };
        let minute = SignedDuration::from_mins(1);
        for (now, reminder) in [
            (at - days(15), None),
            (at - days(14), None),
            (at - days(14) + minute, Some(14)),
            (at - days(8), Some(14)),
            (at - days(7) + minute, Some(7)),
            (at - days(1) + minute, Some(1)),
            (at - minute, Some(1)),
            (at, Some(0)),
            (at + days(3), Some(0)),
        ] {
            assert_eq!(due.reminder(now), reminder, "{now}");
            assert_eq!(due.is_near(now), reminder.is_some(), "{now}");
        }
    }
}
