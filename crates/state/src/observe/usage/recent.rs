//! [`Recent`]: the counts of a shard since the last collection. An entry of the shard stores its place in this list, so
//! that counting needs no second look-up. A collection takes the whole list and leaves an empty one.

use super::exchange_use::ExchangeUse;
use super::history::{UsageKey, UsageOf, UsageSum};

/// The sums of a shard.
#[derive(Debug)]
pub(super) struct Recent {
    /// The number of the list, which increases when the list is taken. Places in earlier lists are no longer valid.
    round: u64,
    sums: Vec<RecentSum>,
}

/// A sum and its key. A key may occur more than once, because an agent may have several tokens.
#[derive(Debug)]
pub(super) struct RecentSum {
    pub(super) key: UsageKey,
    pub(super) sum: UsageSum,
}

/// A place in [`Recent`]. The default place is never valid.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecentPlace {
    round: u64,
    index: usize,
}

impl Default for Recent {
    fn default() -> Self {
        Self { round: 1, sums: Vec::new() }
    }
}

impl Recent {
    /// Adds an exchange to the sum at a place. An exchange without an organisation is not counted.
    pub(super) fn count(
        &mut self,
        place: &mut RecentPlace,
        used: &ExchangeUse<'_>,
        of: impl FnOnce() -> UsageOf,
    ) {
        if let Some(org) = used.org {
            self.at(place, || UsageKey { org: org.clone(), of: of() }).count(used);
        }
    }

    /// The sum at a place; a new one if the place is of an earlier round.
    fn at(&mut self, place: &mut RecentPlace, key: impl FnOnce() -> UsageKey) -> &mut UsageSum {
        if place.round != self.round {
            *place = RecentPlace { round: self.round, index: self.sums.len() };
            self.sums.push(RecentSum { key: key(), sum: UsageSum::default() });
        }
        &mut self.sums[place.index].sum
    }

    pub(super) fn take(&mut self) -> Vec<RecentSum> {
        self.round += 1;
        let room = Vec::with_capacity(self.sums.len());
        std::mem::replace(&mut self.sums, room)
    }

    pub(super) fn sums(&self) -> &[RecentSum] {
        &self.sums
    }
}
