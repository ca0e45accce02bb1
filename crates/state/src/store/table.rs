//! [`Table`]: the tables of a store, and their stable names.

/// The tables. Each row is one aggregate; keys begin with the org's id.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Table {
    /// Data of the whole store.
    Meta,
    Orgs,
    /// Users with their tokens.
    Users,
    /// Agents with their tokens and bindings.
    Agents,
    /// Connections, without secrets.
    Connections,
    /// Sealed grants of connections, and sealed secrets of apps.
    Grants,
    /// Bindings with a row of their own.
    Bindings,
    /// Index of unique names.
    Names,
    /// Index of token hashes.
    Tokens,
    /// Apps, without secrets.
    Apps,
    Flows,
    /// Revocations that must be sent to providers.
    Outbox,
    /// Plugins installed for agents.
    Plugins,
    /// Failed refreshes.
    Refreshes,
    /// Webhooks: where events are delivered.
    Webhooks,
    /// Signing keys of webhooks.
    WebhookKeys,
    /// Events that have not been delivered yet.
    Deliveries,
    /// Placeholders without a binding.
    Honeytokens,
    /// Providers that organisations added.
    Providers,
    /// Rules that are stored, with their places in the order.
    Rules,
    /// Sessions of agents for end users.
    Sessions,
    /// Usage of connections, agents and organisations over time.
    Usage,
    /// Links by which people connect accounts.
    ConnectSessions,
    /// Browsers in which users are signed in.
    Logins,
    /// Hooks: URLs to which services post their webhooks.
    Hooks,
    /// Secrets of services, and keys that sign deliveries.
    HookKeys,
    /// Verified webhooks that have not been delivered yet, and the ids of delivered ones.
    HookEvents,
    /// Secret sources, without their credentials.
    Sources,
    /// Sealed credentials of secret sources.
    SourceKeys,
    /// Database listeners that are added while the gateway runs.
    DatabaseListeners,
}

impl Table {
    /// All tables, in the order of their declaration.
    pub const ALL: [Self; 30] = [
        Self::Meta,
        Self::Orgs,
        Self::Users,
        Self::Agents,
        Self::Connections,
        Self::Grants,
        Self::Bindings,
        Self::Names,
        Self::Tokens,
        Self::Apps,
        Self::Flows,
        Self::Outbox,
        Self::Plugins,
        Self::Refreshes,
        Self::Webhooks,
        Self::WebhookKeys,
        Self::Deliveries,
        Self::Honeytokens,
        Self::Providers,
        Self::Rules,
        Self::Sessions,
        Self::Usage,
        Self::ConnectSessions,
        Self::Logins,
        Self::Hooks,
        Self::HookKeys,
        Self::HookEvents,
        Self::Sources,
        Self::SourceKeys,
        Self::DatabaseListeners,
    ];

    /// The stable name: part of the file format and of every seal's associated data.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Orgs => "orgs",
            Self::Users => "users",
            Self::Agents => "agents",
            Self::Connections => "connections",
            Self::Grants => "grants",
            Self::Bindings => "bindings",
            Self::Names => "names",
            Self::Tokens => "tokens",
            Self::Apps => "apps",
            Self::Flows => "flows",
            Self::Outbox => "outbox",
            Self::Plugins => "plugins",
            Self::Refreshes => "refreshes",
            Self::Webhooks => "webhooks",
            Self::WebhookKeys => "webhook_keys",
            Self::Deliveries => "deliveries",
            Self::Honeytokens => "honeytokens",
            Self::Providers => "providers",
            Self::Rules => "rules",
            Self::Sessions => "sessions",
            Self::Usage => "usage",
            Self::ConnectSessions => "connect_sessions",
            Self::Logins => "logins",
            Self::Hooks => "hooks",
            Self::HookKeys => "hook_keys",
            Self::HookEvents => "hook_events",
            Self::Sources => "sources",
            Self::SourceKeys => "source_keys",
            Self::DatabaseListeners => "database_listeners",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }
}
