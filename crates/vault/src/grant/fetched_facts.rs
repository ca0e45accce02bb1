//! When values of a secret source were fetched, and how long they are used.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// When values were fetched, and for which references.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FetchedFacts {
    /// When they were fetched.
    pub at: Timestamp,
    /// When they are fetched again.
    pub until: Timestamp,
    /// Until then they are used if the source is unavailable.
    pub kept_until: Timestamp,
    /// A digest of the references. After a change of the references, the values are not used.
    pub references: String,
    /// A digest of the sources' settings. After a change of the settings, the values are fetched again.
    pub sources: String,
}

impl FetchedFacts {
    /// The facts of values that were fetched at `at`; `references` and `sources` are digests.
    pub fn new(
        at: Timestamp,
        ttl: Duration,
        keep: Duration,
        references: String,
        sources: String,
    ) -> Self {
        let after = |from: Timestamp, rest| from.checked_add(rest).unwrap_or(Timestamp::MAX);
        let until = after(at, ttl);
        Self { at, until, kept_until: after(until, keep), references, sources }
    }

    /// Whether the values are those of these references and not too old.
    pub fn may_be_used(&self, references: &str, now: Timestamp) -> bool {
        self.references == references && now < self.kept_until
    }
}
