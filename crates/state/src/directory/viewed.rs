//! `viewed!`: the tables whose records the view has, with the kind of each.

/// `$shown`, with the kind of the records of a table in the view; `$other` for tables that the view does not have.
macro_rules! viewed {
    ($table:expr, $kind:ident => $shown:expr, $other:expr) => {
        viewed!(@ $table, $kind, $shown, $other; Users User, Agents Agent, Connections Connection, Apps App,
            Plugins Plugin, Webhooks Webhook, Honeytokens Honeytoken, Providers OwnProvider, Rules Rule,
            Sessions Session, ConnectSessions ConnectSession, Logins Login, Hooks Hook,
            Sources Source, DatabaseListeners DatabaseListener)
    };
    (@ $table:expr, $kind:ident, $shown:expr, $other:expr; $($of:ident $record:ident),*) => {
        match $table {
            $($crate::store::Table::$of => {
                type $kind = keyward_model::$record;
                $shown
            })*
            _ => $other,
        }
    };
}
pub(super) use viewed;
