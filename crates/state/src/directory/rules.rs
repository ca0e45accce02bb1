//! Stored rules as a [`Stored`] resource: the records that a rule names must exist, and the rules have an order.
//!
//! A position is a number with gaps between neighbours, so that a rule is added or moved by one write of its own row. A
//! new order of many rules is written from its front: at each moment in between, and after a crash, the rules that were
//! written come first, in the new order, and the others follow in the old one. The first rule that matches a request is
//! then that of the new order or that of the old one, never a third.

use std::sync::Arc;

use super::Directory;
use super::error::DirectoryError;
use super::index::NameKind;
use super::stored::{Stored, stored_in};
use super::view::View;
use crate::store::Table;
use keyward_base::id::{OrgId, StoredRuleId};
use keyward_model::{Record, Rule};

/// The gap beside a new rule. At least 32 rules fit into it, even if each is placed beside the last one.
const GAP: i64 = 1 << 32;

impl Stored for Rule {
    const TABLE: Table = Table::Rules;
    const NAMED: NameKind = NameKind::Rule;

    stored_in!(rules);

    /// Runs with the write lock, so that the named records cannot be removed meanwhile.
    fn may_add(record: &Record<Self>, view: &View) -> Result<(), DirectoryError> {
        record.named().try_for_each(|id| exists(record, id, view))
    }

    fn may_change(
        before: &Record<Self>,
        after: &Record<Self>,
        view: &View,
    ) -> Result<(), DirectoryError> {
        let is_new = |id: &&str| before.named().all(|other| other != *id);
        after.named().filter(is_new).try_for_each(|id| exists(after, id, view))
    }
}

fn exists(record: &Record<Rule>, id: &str, view: &View) -> Result<(), DirectoryError> {
    let is_connection = record.use_connection.as_deref() == Some(id);
    let (what, found) = match is_connection {
        true => ("connection", view.find_connection(&record.org, id).is_some()),
        false => ("agent", view.find_agent(&record.org, id).is_some()),
    };
    if found { Ok(()) } else { Err(DirectoryError::not_found(what, id)) }
}

impl View {
    /// The stored rules of an organisation, in the order in which they decide.
    pub fn rules_in_order(&self, org: &OrgId) -> Vec<Arc<Record<Rule>>> {
        let mut rules: Vec<_> = self.all::<Rule>(org).cloned().collect();
        rules.sort_by(|a, b| (a.facts.position, &a.id).cmp(&(b.facts.position, &b.id)));
        rules
    }

    /// The first stored rule that names an agent or a connection.
    pub fn rule_naming(&self, org: &OrgId, id: &str) -> Option<&Arc<Record<Rule>>> {
        let naming = self.all::<Rule>(org).filter(|rule| rule.named().any(|other| other == id));
        naming.min_by(|a, b| (a.facts.position, &a.id).cmp(&(b.facts.position, &b.id)))
    }
}

impl Directory {
    /// A position for a rule at `index` of `others`, the other stored rules in their order. Moves the rules before it
    /// if there is no room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn room_for_rule(
        &self,
        org: &OrgId,
        others: &[Arc<Record<Rule>>],
        index: usize,
    ) -> Result<i64, DirectoryError> {
        let (front, back) = others.split_at(index.min(others.len()));
        let at = |rule: Option<&Arc<Record<Rule>>>| rule.map(|rule| rule.facts.position);
        if let Some(position) = between(at(front.last()), at(back.first())) {
            return Ok(position);
        }
        let ids: Vec<_> = front.iter().map(|rule| rule.id.clone()).collect();
        let moved = self.put_in_front(org, others, &ids).await?;
        Ok(between(moved.last().copied(), at(back.first())).unwrap_or_default())
    }

    /// Puts all stored rules of an organisation into an order. `before` is the current order.
    ///
    /// # Errors
    /// When the store fails; then the rules that were written come first, in the new order.
    pub async fn order_rules(
        &self,
        org: &OrgId,
        before: &[Arc<Record<Rule>>],
        wanted: &[StoredRuleId],
    ) -> Result<(), DirectoryError> {
        let same = before.iter().rev().zip(wanted.iter().rev());
        let same = same.take_while(|(rule, id)| rule.id == **id).count();
        let front = &wanted[..wanted.len().saturating_sub(same)];
        self.put_in_front(org, before, front).await.map(drop)
    }

    /// Puts rules before all others, one by one from the first one.
    async fn put_in_front(
        &self,
        org: &OrgId,
        all: &[Arc<Record<Rule>>],
        front: &[StoredRuleId],
    ) -> Result<Vec<i64>, DirectoryError> {
        let positions = in_front(front.len(), all.iter().map(|rule| rule.facts.position));
        for (id, position) in front.iter().zip(&positions) {
            let place = |rule: &mut Record<Rule>| rule.facts.position = *position;
            self.change::<Rule>(org, id, place).await?;
        }
        Ok(positions)
    }
}

/// A position between two neighbours, each `None` at the end of the order; `None` if there is no room.
pub(super) fn between(before: Option<i64>, after: Option<i64>) -> Option<i64> {
    match (before, after) {
        (None, None) => Some(0),
        (Some(before), None) => before.checked_add(GAP),
        (None, Some(after)) => after.checked_sub(GAP),
        (Some(before), Some(after)) => {
            let middle = before.midpoint(after);
            (before < middle && middle < after).then_some(middle)
        }
    }
}

/// Ascending positions for `count` rules, before all of `positions`.
pub(super) fn in_front(count: usize, positions: impl Iterator<Item = i64>) -> Vec<i64> {
    let lowest = positions.min().unwrap_or(0);
    let steps = (1..=count).rev().filter_map(|step| i64::try_from(step).ok());
    steps.map(|step| lowest.saturating_sub(GAP.saturating_mul(step))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_position_is_strictly_between_its_neighbours_or_absent() {
        assert_eq!(between(Some(4), Some(5)), None);
        assert_eq!(between(Some(4), Some(4)), None);
        assert_eq!(between(Some(5), Some(4)), None);
        assert_eq!(between(Some(i64::MAX), None), None);
        assert_eq!(between(None, Some(i64::MIN)), None);
        assert_eq!(between(Some(4), Some(6)), Some(5));
        assert_eq!(between(Some(-6), Some(-4)), Some(-5));
    }

    #[test]
    fn many_rules_fit_between_two_neighbours() {
        let (first, mut last) = (between(None, None).unwrap(), between(Some(0), None).unwrap());
        let mut count = 0;
        while let Some(position) = between(Some(first), Some(last)) {
            (last, count) = (position, count + 1);
        }
        assert_eq!(count, 32);
    }

    #[test]
    fn rules_are_put_in_front_in_their_order() {
        let positions = in_front(3, [7, -5].into_iter());
        assert!(positions.is_sorted() && positions[2] < -5, "{positions:?}");
        // The smallest position counts.
        let positions = in_front(2, [GAP * 8, -GAP * 8].into_iter());
        assert!(positions.is_sorted() && positions[1] < -GAP * 8, "{positions:?}");
        assert_eq!(in_front(0, [1].into_iter()), [0; 0]);
    }
}
