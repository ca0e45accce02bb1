//! [`ViewChange`]: the notices and the audit record of one change, derived from the views before and after it. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::records::{AgentRecord, ConnectionRecord, PluginRecord};
use super::remedy::{Remedies, RemedyCause};
use super::rows::RowId;
use super::view::View;
use crate::observe::change::{Actor, Change};
use crate::observe::notice::{NamedResource, Notice, NoticeDetails, NoticeKind};
use crate::store::Table;
use keyward_base::id::{AgentId, ConnectSessionId, ConnectionId, OrgId, PluginId, StoredRuleId};
use keyward_model::{ConnectSession, ConnectionState, PluginState, Record, RotationState, Rule};
use keyward_rules::provider::Catalogue;

/// One change: both views, its actor and its time.
pub(super) struct ViewChange<'a> {
    pub before: &'a View,
    pub after: &'a View,
    pub by: &'a Actor,
    pub now: Timestamp,
    pub catalogue: &'a Catalogue,
}

/// A connection in one of the views.
type Seen<'a> = Option<&'a Arc<ConnectionRecord>>;

impl ViewChange<'_> {
    /// The notices of the change of this row.
    pub fn notices(&self, at: &RowId) -> Vec<Notice> {
        let told = match at.table {
            Table::Connections => {
                ConnectionId::parse(&at.id).map(|id| self.connection(&at.org, &id))
            }
            Table::Agents => AgentId::parse(&at.id).map(|id| self.agent(&at.org, &id)),
            Table::Plugins => PluginId::parse(&at.id).map(|id| self.plugin(&at.org, &id)),
            Table::Rules => StoredRuleId::parse(&at.id).map(|id| self.rule(&at.org, &id)),
            Table::ConnectSessions => {
                let id = ConnectSessionId::parse(&at.id);
                id.map(|id| self.connect_session(&at.org, &id).into_iter().collect())
            }
            _ => Ok(Vec::new()),
        };
        told.unwrap_or_default()
    }

    /// The audit record of a change that no request records: one by the configuration file, or the end of a rotation, when
    /// the gateway wipes the second secret.
    pub fn change(&self, at: &RowId) -> Option<Change> {
        let (before, after) = (self.before.describe_row(at), self.after.describe_row(at));
        let (what, id, name) = after.clone().or(before.clone())?;
        let wiped = || {
            let id = ConnectionId::parse(&at.id).ok()?;
            let rotates = |view: &View| view.connection(&at.org, &id)?.facts.rotation.clone();
            rotates(self.before).filter(|_| rotates(self.after).is_none())
        };
        let action = match (self.by, before, after) {
            (Actor::File, None, _) => "added",
            (Actor::File, _, None) => "removed",
            (Actor::File, ..) => "changed",
            (Actor::Gateway, Some(_), Some(_)) if wiped().is_some() => "rotation ended",
            _ => return None,
        };
        Some(Change::new(self.by, what, action).of(id, &name))
    }

    fn connection(&self, org: &OrgId, id: &ConnectionId) -> Vec<Notice> {
        let (before, after) = (self.before.connection(org, id), self.after.connection(org, id));
        let mut told: Vec<_> = self.of_state(org, before, after).into_iter().collect();
        told.extend(self.of_secret(org, before, after));
        let usable = |seen: Seen<'_>| seen.is_some_and(|it| it.facts.state.is_usable());
        if usable(before) != usable(after) {
            let has = |plugin: &&Arc<PluginRecord>| plugin.slots_with(id).next().is_some();
            let holders = self.after.holders(org, id);
            let plugins = holders.flat_map(|agent| self.after.plugins_of(org, &agent.id));
            let plugins = plugins.filter(has);
            told.extend(plugins.filter_map(|plugin| self.of_plugin(org, &plugin.id)));
        }
        told
    }

    fn of_state(&self, org: &OrgId, before: Seen<'_>, after: Seen<'_>) -> Option<Notice> {
        use ConnectionState::{Active, Broken, Draft, Paused, Testing};
        let Some(now) = after else {
            // A draft was never connected, so no event has named it.
            let removed = before.filter(|it| !matches!(it.facts.state, Draft { .. }))?;
            return Some(self.notice(NoticeKind::ConnectionRemoved, org, about(removed)));
        };
        let kind = match (before.map(|it| &it.facts.state), &now.facts.state) {
            (Some(Broken { reason: was, .. }), Broken { reason, .. }) if was == reason => None,
            (_, Broken { .. }) => Some(NoticeKind::ConnectionBroken),
            (Some(Paused), Paused) => None,
            (_, Paused) => Some(NoticeKind::ConnectionPaused),
            (Some(Paused), Active | Testing) => Some(NoticeKind::ConnectionResumed),
            (Some(Broken { .. }), Active) => Some(NoticeKind::ConnectionReconnected),
            (None | Some(Draft { .. } | Testing), Active) => Some(NoticeKind::ConnectionConnected),
            (Some(Active), Active) | (_, Testing | Draft { .. }) => None,
        };
        let mut about = about(now);
        if let Broken { reason, detail } = &now.facts.state {
            about.reason = Some(reason.code().to_owned());
            about.detail.clone_from(detail);
            about.remedy = self.remedy(now, RemedyCause::Use);
        }
        Some(self.notice(kind?, org, about))
    }

    /// Notices of a rotated secret, and of one that expires soon.
    fn of_secret(&self, org: &OrgId, before: Seen<'_>, after: Seen<'_>) -> Vec<Notice> {
        let (Some(before), Some(after)) = (before, after) else { return Vec::new() };
        let kept = |it: &ConnectionRecord| {
            it.facts.rotation.as_ref().map(|rotation| rotation.state)
                == Some(RotationState::Unconfirmed)
        };
        let swapped = before.facts.rotated != after.facts.rotated;
        let mut told = Vec::new();
        if swapped {
            let rolled_back = kept(before) && !kept(after);
            let reason = rolled_back.then(|| "rolled_back".to_owned());
            let about = NoticeDetails { reason, ..about(after) };
            told.push(self.notice(NoticeKind::ConnectionRotated, org, about));
        }
        let reminded =
            after.facts.reminded.filter(|_| before.facts.reminded != after.facts.reminded);
        if let Some(due) = reminded.and_then(|_| after.due()) {
            let reason = Some(due.why.code().to_owned());
            let remedy = self.remedy(after, RemedyCause::Credential);
            let about = NoticeDetails { reason, due: Some(due.at), remedy, ..about(after) };
            told.push(self.notice(NoticeKind::ConnectionExpiring, org, about));
        }
        told
    }

    fn agent(&self, org: &OrgId, id: &AgentId) -> Vec<Notice> {
        let (before, after) = (self.before.agent(org, id), self.after.agent(org, id));
        let bound = after.map(|agent| (agent, lost(agent, before), NoticeKind::ConnectionBound));
        let unbound =
            before.map(|agent| (agent, lost(agent, after), NoticeKind::ConnectionUnbound));
        let mut told = Vec::new();
        for (agent, connections, kind) in bound.into_iter().chain(unbound) {
            for connection in connections {
                let found = self.before.connection(org, &connection);
                let Some(found) = found.or(self.after.connection(org, &connection)) else {
                    continue;
                };
                let agent = Some(NamedResource::new(agent.id.clone(), &agent.name));
                told.push(self.notice(kind, org, NoticeDetails { agent, ..about(found) }));
            }
        }
        told
    }

    fn plugin(&self, org: &OrgId, id: &PluginId) -> Vec<Notice> {
        self.of_plugin(org, id).into_iter().collect()
    }

    /// The notice that an attempt of a connect session has succeeded or failed.
    fn connect_session(&self, org: &OrgId, id: &ConnectSessionId) -> Option<Notice> {
        let before = self.before.one::<ConnectSession>(org, id)?;
        let after = self.after.one::<ConnectSession>(org, id)?;
        let (was, is) = (&before.facts, &after.facts);
        let user = self.after.connecting_user(after).map(|user| user.name().to_owned());
        let link = Some(NamedResource::new(after.id.clone(), after.name()));
        let about = NoticeDetails { connect_session: link, user, ..NoticeDetails::default() };
        match &is.connected {
            Some(made) if was.connected.is_none() => {
                let connection = Some(NamedResource::new(made.id.clone(), &made.name));
                let provider = Some(made.provider.clone());
                let about = NoticeDetails { connection, provider, ..about };
                Some(self.notice(NoticeKind::ConnectSessionCompleted, org, about))
            }
            None if is.failures > was.failures => {
                let about = NoticeDetails { reason: is.failure.clone(), ..about };
                Some(self.notice(NoticeKind::ConnectSessionFailed, org, about))
            }
            _ => None,
        }
    }

    /// The notice of a changed rule. A move that only makes room for other rules causes none, because it has no effect
    /// on requests.
    fn rule(&self, org: &OrgId, id: &StoredRuleId) -> Vec<Notice> {
        let (before, after) = (self.before.one::<Rule>(org, id), self.after.one::<Rule>(org, id));
        let order = |view: &View| -> Vec<_> {
            view.rules_in_order(org).iter().map(|rule| rule.id.clone()).collect()
        };
        let kind = match (before, after) {
            (None, _) => NoticeKind::RuleAdded,
            (_, None) => NoticeKind::RuleRemoved,
            (Some(before), Some(after))
                if before.spec == after.spec && order(self.before) == order(self.after) =>
            {
                return Vec::new();
            }
            _ => NoticeKind::RuleChanged,
        };
        let about = |rule: &Arc<Record<Rule>>| {
            let rule = Some(NamedResource::new(rule.id.clone(), rule.name()));
            self.notice(kind, org, NoticeDetails { rule, ..NoticeDetails::default() })
        };
        after.or(before).into_iter().map(about).collect()
    }

    /// The notice of a plugin's new state; `None` if it has not changed.
    fn of_plugin(&self, org: &OrgId, id: &PluginId) -> Option<Notice> {
        let now = self.after.plugin(org, id)?;
        let missing = now.missing(|id| self.after.connection(org, id).map(AsRef::as_ref));
        let state = now.state(&missing);
        let before = self.before.plugin(org, id).map(|before| {
            let find = |id: &ConnectionId| self.before.connection(org, id).map(AsRef::as_ref);
            before.state(&before.missing(find))
        });
        let kind = match state {
            _ if before == Some(state) => return None,
            // The configuration file paused it; the reload has its own audit record.
            PluginState::Paused => return None,
            PluginState::Ready => NoticeKind::PluginReady,
            PluginState::Degraded => NoticeKind::PluginDegraded,
            PluginState::Blocked => NoticeKind::PluginBlocked,
        };
        let blocking = missing.iter().find(|it| it.slot.required || state == PluginState::Degraded);
        let connection = blocking.and_then(|it| it.connection);
        let agent = self.after.agent_of(now);
        let about = NoticeDetails {
            plugin: Some(NamedResource::new(now.id.clone(), now.name())),
            agent: agent.map(|agent| NamedResource::new(agent.id.clone(), &agent.name)),
            slot: blocking.map(|it| it.slot.slot.clone()),
            provider: blocking.map(|it| it.slot.provider.clone()),
            connection: connection.map(|it| NamedResource::new(it.id.clone(), &it.name)),
            remedy: connection.and_then(|it| self.remedy(it, RemedyCause::Use)),
            reason: blocking.map(|it| it.state().map_or("empty", ConnectionState::code).to_owned()),
            ..NoticeDetails::default()
        };
        Some(self.notice(kind, org, about))
    }

    fn remedy(&self, connection: &ConnectionRecord, cause: RemedyCause<'_>) -> Option<String> {
        Remedies::in_view(connection, self.catalogue, self.after).remedy(cause)
    }

    fn notice(&self, kind: NoticeKind, org: &OrgId, about: NoticeDetails) -> Notice {
        Notice::new(kind, org, self.by, self.now, about)
    }
}

/// The connections that an agent is bound to, and `other` is not.
fn lost(of: &AgentRecord, other: Option<&Arc<AgentRecord>>) -> Vec<ConnectionId> {
    let kept = other.into_iter().flat_map(|other| &other.facts.bindings);
    let kept: HashSet<_> = kept.map(|binding| &binding.connection).collect();
    let ids = of.facts.bindings.iter().map(|binding| &binding.connection);
    ids.filter(|id| !kept.contains(id)).cloned().collect()
}

fn about(connection: &Arc<ConnectionRecord>) -> NoticeDetails {
    NoticeDetails {
        connection: Some(NamedResource::new(connection.id.clone(), &connection.name)),
        provider: Some(connection.provider.clone()),
        ..NoticeDetails::default()
    }
}
