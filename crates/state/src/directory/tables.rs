//! What the directory does with the rows of each table. Every `match` names all tables, so that a new table does not compile
//! before it is decided.

use crate::store::Table;

/// `$shown`, with the kind of the records of a table that the view has; `$other` for the other tables.
macro_rules! viewed {
    ($table:expr, $kind:ident => $shown:expr, $other:expr) => {
        viewed!(@ $table, $kind, $shown, $other;
            Users User, Agents Agent, Connections Connection, Apps App, Plugins Plugin, Webhooks Webhook,
            Honeytokens Honeytoken, Providers OwnProvider, Rules Rule, Sessions Session,
            ConnectSessions ConnectSession, Logins Login, Hooks Hook, Sources Source,
            DatabaseListeners DatabaseListener;
            Meta, Orgs, Grants, Bindings, Names, Tokens, Flows, Outbox, Refreshes, WebhookKeys, Deliveries, Usage,
            HookKeys, HookEvents, SourceKeys)
    };
    (@ $table:expr, $kind:ident, $shown:expr, $other:expr; $($of:ident $record:ident),*; $($without:ident),*) => {
        match $table {
            $($crate::store::Table::$of => {
                type $kind = keyward_model::$record;
                $shown
            })*
            $($crate::store::Table::$without)|* => $other,
        }
    };
}
pub(super) use viewed;

/// Records that keep their organisation from being removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum KeepsOrg {
    /// In every version.
    Always,
    /// Earlier versions removed the organisation and left these records.
    Since,
}

/// `None`: the rows do not keep their organisation, or belong to records that do.
pub(super) fn keeps_org(table: Table) -> Option<KeepsOrg> {
    use Table::{
        Agents, Apps, Bindings, ConnectSessions, Connections, DatabaseListeners, Deliveries, Flows,
        Grants, Honeytokens, HookEvents, HookKeys, Hooks, Logins, Meta, Names, Orgs, Outbox,
        Plugins, Providers, Refreshes, Rules, Sessions, SourceKeys, Sources, Tokens, Usage, Users,
        WebhookKeys, Webhooks,
    };
    match table {
        Users | Agents | Connections | Apps | Providers | Rules | Sources => Some(KeepsOrg::Always),
        Webhooks | Honeytokens | Hooks | DatabaseListeners => Some(KeepsOrg::Since),
        Meta | Orgs | Grants | Bindings | Names | Tokens | Flows | Outbox | Plugins | Refreshes
        | WebhookKeys | Deliveries | Sessions | Usage | ConnectSessions | Logins | HookKeys
        | HookEvents | SourceKeys => None,
    }
}

/// How far a running process trusts the rows of a shared store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RowGuard {
    /// Any version is accepted: keys are used again, or the rows permit nothing.
    Unguarded,
    /// Keys are used once, and the rows say what is permitted: no older version is accepted.
    Guarded,
    /// As `Guarded`, and a deletion would permit or conceal something: it needs a mark.
    Marked,
}

pub(super) fn guard_of(table: Table) -> RowGuard {
    use Table::{
        Agents, Apps, Bindings, ConnectSessions, Connections, DatabaseListeners, Deliveries, Flows,
        Grants, Honeytokens, HookEvents, HookKeys, Hooks, Logins, Meta, Names, Orgs, Outbox,
        Plugins, Providers, Refreshes, Rules, Sessions, SourceKeys, Sources, Tokens, Usage, Users,
        WebhookKeys, Webhooks,
    };
    match table {
        Meta | Orgs | Names | Tokens | Flows | Outbox | Refreshes | Deliveries | Usage
        | HookEvents => RowGuard::Unguarded,
        Users | Agents | Connections | Grants | Bindings | Apps | WebhookKeys | Providers
        | Sessions | ConnectSessions | Logins | Hooks | HookKeys | Sources | SourceKeys
        | DatabaseListeners => RowGuard::Guarded,
        Rules | Plugins | Honeytokens | Webhooks => RowGuard::Marked,
    }
}
