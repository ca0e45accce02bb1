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
    /// The rows do not keep their organisation, or belong to records that do.
    Not,
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

pub(super) fn keeps_org(table: Table) -> KeepsOrg {
    rules_of(table).0
}

pub(super) fn guard_of(table: Table) -> RowGuard {
    rules_of(table).1
}

fn rules_of(table: Table) -> (KeepsOrg, RowGuard) {
    use KeepsOrg::{Always, Not, Since};
    use RowGuard::{Guarded, Marked, Unguarded};
    match table {
        Table::Users
        | Table::Agents
        | Table::Connections
        | Table::Apps
        | Table::Providers
        | Table::Sources => (Always, Guarded),
        Table::Rules => (Always, Marked),
        Table::Hooks | Table::DatabaseListeners => (Since, Guarded),
        Table::Webhooks | Table::Honeytokens => (Since, Marked),
        Table::Plugins => (Not, Marked),
        Table::Grants
        | Table::Bindings
        | Table::WebhookKeys
        | Table::Sessions
        | Table::ConnectSessions
        | Table::Logins
        | Table::HookKeys
        | Table::SourceKeys => (Not, Guarded),
        Table::Meta
        | Table::Orgs
        | Table::Names
        | Table::Tokens
        | Table::Flows
        | Table::Outbox
        | Table::Refreshes
        | Table::Deliveries
        | Table::Usage
        | Table::HookEvents => (Not, Unguarded),
    }
}
