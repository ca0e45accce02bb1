//! [`Notice`]: an event of a connection, binding, plugin or token that people are notified of. It goes to the
//! audit log, the metrics, and webhooks.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::change::{Actor, Change};
use keyward_base::id::{
    AgentId, ConnectSessionId, ConnectionId, EventId, OrgId, PluginId, StoredRuleId, TokenId,
};
pub use keyward_model::NoticeKind;

/// A resource by id and name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NamedResource<T> {
    pub id: T,
    /// The resource's name at the time of the event.
    pub name: String,
}

/// One event. It must not contain secrets.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Notice {
    /// The event's id, the same for each delivery.
    pub id: EventId,
    /// The organisation it belongs to.
    pub org: OrgId,
    /// The time of the event.
    pub at: Timestamp,
    /// The type of the event.
    pub kind: NoticeKind,
    /// The author: `operator`, `usr_…`, `file` or `gateway`.
    pub by: String,
    /// The resources and reasons of the event.
    pub about: NoticeDetails,
}

/// The data of an event; which fields are set depends on its type.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct NoticeDetails {
    /// The name of the user who caused it, or whom a connect session is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<NamedResource<ConnectionId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<NamedResource<AgentId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<NamedResource<PluginId>>,
    /// The slot of the plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<NamedResource<StoredRuleId>>,
    /// The connect session; its name is its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_session: Option<NamedResource<ConnectSessionId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenId>,
    /// The honeytoken, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub honeytoken: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The reason, as a stable name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// More about the reason: the provider's own code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What a person can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The deadline that the event announces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
}

impl<T> NamedResource<T> {
    /// Makes a reference.
    pub fn new(id: T, name: &str) -> Self {
        Self { id, name: name.to_owned() }
    }
}

impl Notice {
    /// An event that has happened now.
    pub fn new(
        kind: NoticeKind,
        org: &OrgId,
        by: &Actor,
        at: Timestamp,
        about: NoticeDetails,
    ) -> Self {
        let user = match by {
            Actor::User { name, .. } => Some(name.clone()),
            _ => None,
        };
        let about = NoticeDetails { user: user.or(about.user), ..about };
        Self { id: EventId::random(), org: org.clone(), at, kind, by: by.to_string(), about }
    }

    /// Whether the event needs an audit record even if its request leaves one: it is an indirect consequence,
    /// such as a blocked plugin.
    pub fn needs_own_record(&self) -> bool {
        !["connection", "rule"].contains(&self.kind.parts().0)
    }

    /// The change for the audit log.
    pub fn change(&self) -> Change {
        let (what, action) = self.kind.parts();
        let about = &self.about;
        let of_plugin = about.plugin.as_ref().filter(|_| what == "plugin");
        let of_connection = about.connection.as_ref().filter(|_| what == "connection");
        let of_rule = about.rule.as_ref().filter(|_| what == "rule");
        let thing = of_plugin.map(|it| (it.id.to_string(), it.name.clone()));
        let thing = thing.or(of_connection.map(|it| (it.id.to_string(), it.name.clone())));
        let of_link = about.connect_session.as_ref();
        let thing = thing.or(of_link.map(|it| (it.id.to_string(), it.name.clone())));
        let thing = thing.or(of_rule.map(|it| (it.id.to_string(), it.name.clone())));
        let token =
            || Some((about.token.as_ref()?.to_string(), about.agent.as_ref()?.name.clone()));
        // An alarm is about the honeytoken: its explanation names the agent and the token.
        let thing = if about.honeytoken.is_some() { None } else { thing.or_else(token) };
        let (id, name) =
            thing.map_or((None, about.honeytoken.clone()), |(id, name)| (Some(id), Some(name)));
        Change {
            from: None,
            by: self.by.clone(),
            user: about.user.clone(),
            login: None,
            what: what.replace('_', " "),
            id,
            name,
            action: action.to_owned(),
            label: None,
            event: Some(self.kind.code().to_owned()),
            events: Vec::new(),
            why: about.sentence(what),
        }
    }
}

impl NoticeDetails {
    /// A further explanation.
    fn sentence(&self, what: &str) -> Option<String> {
        let mut words = Vec::new();
        let mut say = |before: &str, text: Option<&str>| {
            words.extend(text.map(|text| format!("{before}{text}")));
        };
        say("", self.reason.as_deref());
        say("", self.detail.as_deref());
        say("slot ", self.slot.as_deref());
        if what != "connection" {
            say("connection ", self.connection.as_ref().map(|it| &*it.name));
        }
        say("agent ", self.agent.as_ref().map(|it| &*it.name));
        if what == "honeytoken" {
            say("token ", self.token.as_ref().map(TokenId::as_str));
        }
        say("host ", self.host.as_deref());
        say("due ", self.due.map(|due| due.to_string()).as_deref());
        (!words.is_empty()).then(|| words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::change::TaskActor;
    use keyward_base::id::UserId;

    fn notice(kind: NoticeKind, by: &Actor) -> Notice {
        let about = NoticeDetails {
            connection: Some(NamedResource::new(ConnectionId::random(), "work")),
            plugin: Some(NamedResource::new(PluginId::random(), "digest")),
            reason: Some("revoked".to_owned()),
            ..NoticeDetails::default()
        };
        Notice::new(kind, &OrgId::default_org(), by, Timestamp::UNIX_EPOCH, about)
    }

    #[test]
    fn the_audit_record_of_an_event_names_the_plugin_or_connection_of_its_kind() {
        let by = Actor::User { id: UserId::random(), name: "ann".to_owned(), login: None };
        let change = notice(NoticeKind::PluginBlocked, &by).change();
        assert_eq!((&*change.what, &*change.action), ("plugin", "blocked"));
        assert_eq!(change.name.as_deref(), Some("digest"));
        assert_eq!(change.why.as_deref(), Some("revoked, connection work"));
        assert_eq!(change.user.as_deref(), Some("ann"));
        let change = notice(NoticeKind::ConnectionBroken, &Actor::Gateway).change();
        assert_eq!((change.name.as_deref(), change.user), (Some("work"), None));
        assert_eq!(change.event.as_deref(), Some("connection.broken"));
    }

    #[test]
    fn the_record_of_an_alarm_names_the_honeytoken_agent_and_token() {
        let token = TokenId::random();
        let about = NoticeDetails {
            agent: Some(NamedResource::new(AgentId::random(), "ci")),
            token: Some(token.clone()),
            honeytoken: Some("readme".to_owned()),
            ..NoticeDetails::default()
        };
        let (kind, org) = (NoticeKind::HoneytokenUsed, OrgId::default_org());
        let change =
            Notice::new(kind, &org, &Actor::Gateway, Timestamp::UNIX_EPOCH, about).change();
        assert_eq!((change.id, change.name.as_deref()), (None, Some("readme")));
        assert_eq!(change.why, Some(format!("agent ci, token {token}")));
    }

    #[test]
    fn every_kind_of_event_is_parsed_from_its_code_and_has_a_meaning() {
        for kind in NoticeKind::ALL {
            assert_eq!(NoticeKind::parse(kind.code()), Some(*kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.code());
            assert!(kind.meaning().ends_with('.'), "{}", kind.meaning());
        }
        assert_eq!(NoticeKind::parse("connection.eaten"), None);
    }

    #[tokio::test]
    async fn the_actor_is_the_gateway_by_default() {
        let by = || TaskActor::current().by;
        assert_eq!(by(), Actor::Gateway);
        Actor::File.acting(async { assert_eq!(by(), Actor::File) }).await;
        assert_eq!(by(), Actor::Gateway);
    }
}
