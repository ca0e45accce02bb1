//! Stored rules as a [`Stored`] resource: the records that a rule names must exist, and the rules have an order.

use std::sync::Arc;

use super::Directory;
use super::error::DirectoryError;
use super::index::NameKind;
use super::rule_order::{between, in_front};
use super::stored::{Stored, stored_in};
use super::view::View;
use crate::store::Table;
use keyward_base::id::{OrgId, StoredRuleId};
use keyward_model::{Record, Rule};

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
