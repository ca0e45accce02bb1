//! [`Table`]: the tables of a store, and their stable names; and the [`Version`] of a stored row.

use keyward_base::names::labelled_enum;

labelled_enum! {
    /// The tables. Each row is one aggregate; keys begin with the org's id.
    #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub enum Table by name, all {
        /// Data of the whole store.
        Meta = "meta",
        Orgs = "orgs",
        /// Users with their tokens.
        Users = "users",
        /// Agents with their tokens and bindings.
        Agents = "agents",
        /// Connections, without secrets.
        Connections = "connections",
        /// Sealed grants of connections, and sealed secrets of apps.
        Grants = "grants",
        /// Bindings with a row of their own.
        Bindings = "bindings",
        /// Index of unique names.
        Names = "names",
        /// Index of token hashes.
        Tokens = "tokens",
        /// Apps, without secrets.
        Apps = "apps",
        Flows = "flows",
        /// Revocations that must be sent to providers.
        Outbox = "outbox",
        /// Plugins installed for agents.
        Plugins = "plugins",
        /// Failed refreshes.
        Refreshes = "refreshes",
        /// Webhooks: where events are delivered.
        Webhooks = "webhooks",
        /// Signing keys of webhooks.
        WebhookKeys = "webhook_keys",
        /// Events that have not been delivered yet.
        Deliveries = "deliveries",
        /// Placeholders without a binding.
        Honeytokens = "honeytokens",
        /// Providers that organisations added.
        Providers = "providers",
        /// Rules that are stored, with their places in the order.
        Rules = "rules",
        /// Sessions of agents for end users.
        Sessions = "sessions",
        /// Usage of connections, agents and organisations over time.
        Usage = "usage",
        /// Links by which people connect accounts.
        ConnectSessions = "connect_sessions",
        /// Browsers in which users are signed in.
        Logins = "logins",
        /// Hooks: URLs to which services post their webhooks.
        Hooks = "hooks",
        /// Secrets of services, and keys that sign deliveries.
        HookKeys = "hook_keys",
        /// Verified webhooks that have not been delivered yet, and the ids of delivered ones.
        HookEvents = "hook_events",
        /// Secret sources, without their credentials.
        Sources = "sources",
        /// Sealed credentials of secret sources.
        SourceKeys = "source_keys",
        /// Database listeners that are added while the gateway runs.
        DatabaseListeners = "database_listeners",
    }
}

impl Table {
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }
}

/// A row's version: 1 for a new row, incremented at each write. A row that is deleted and recreated starts at 1
/// again.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Version(pub u64);

impl Version {
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}
