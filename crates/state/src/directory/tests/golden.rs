//! The upgrade test of stored rows: rows as earlier versions wrote them are read, and written back with
//! the same content.
//!
//! `golden/` has one file for each table. Each example there is a record exactly as a released version wrote
//! it. **Examples are never edited or removed, only added.** Where one fails, the record type is wrong, not
//! the example: a new field is optional and is omitted when it has its default, and a renamed field keeps its
//! stored name. Where the stored form has to change, the old form is still read, and this test gets a second
//! file with what the old examples become.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::crypto::envelope::Place;
use crate::directory::index::Claim;
use crate::directory::open::Sentinel;
use crate::directory::rows::{DirectoryRows, RowId};
use crate::observe::usage::UsageHistory;
use keyward_model::{
    ConnectSession, DatabaseListener, Honeytoken, Hook, Login, Org, OwnProvider, Record, Rule,
    Session, Source, User, Webhook,
};

/// The examples of a table that are not read, or not written back as they were. A new table does not compile
/// until it is named here.
async fn changed_rows(table: Table) -> Vec<String> {
    match table {
        Table::Meta => stored::<Sentinel>(table).await,
        Table::Orgs => stored::<Record<Org>>(table).await,
        Table::Users => stored::<Record<User>>(table).await,
        Table::Agents => stored::<AgentRecord>(table).await,
        Table::Connections => stored::<ConnectionRecord>(table).await,
        Table::Names => stored::<Claim>(table).await,
        Table::Tokens => stored::<Claim>(table).await,
        Table::Apps => stored::<AppRecord>(table).await,
        Table::Plugins => stored::<PluginRecord>(table).await,
        Table::Webhooks => stored::<Record<Webhook>>(table).await,
        Table::Deliveries => stored::<Delivery>(table).await,
        Table::Hooks => stored::<Record<Hook>>(table).await,
        Table::DatabaseListeners => stored::<Record<DatabaseListener>>(table).await,
        Table::Honeytokens => stored::<Record<Honeytoken>>(table).await,
        Table::Providers => stored::<Record<OwnProvider>>(table).await,
        Table::Sessions => stored::<Record<Session>>(table).await,
        Table::Usage => stored::<UsageHistory>(table).await,
        Table::ConnectSessions => stored::<Record<ConnectSession>>(table).await,
        Table::Logins => stored::<Record<Login>>(table).await,
        Table::Rules => stored::<Record<Rule>>(table).await,
        // Rows of the vault; its `tests/golden` has their examples.
        Table::Grants | Table::Flows | Table::Outbox | Table::Refreshes | Table::WebhookKeys => {
            vec![]
        }
        // Rows of the inbox; its `golden.rs` has their examples.
        Table::HookKeys | Table::HookEvents => vec![],
        Table::Sources => stored::<Record<Source>>(table).await,
        // Rows of the vault, like grants.
        Table::SourceKeys => vec![],
        // No version has written a row here.
        Table::Bindings => vec![],
    }
}

async fn stored<T: DeserializeOwned + Serialize>(table: Table) -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/directory/tests/golden");
    let file = format!("{folder}/{}.json", table.name());
    changed::<T>(table, &std::fs::read_to_string(&file).expect(&file)).await
}

async fn changed<T: DeserializeOwned + Serialize>(table: Table, file: &str) -> Vec<String> {
    let examples: BTreeMap<String, Value> = serde_json::from_str(file).expect("a file of examples");
    assert!(!examples.is_empty(), "{table:?} has no example");
    let mut changed = vec![];
    for (name, example) in examples {
        if let Err(why) = round_trip::<T>(table, &example).await {
            changed.push(format!("{}, `{name}`: {why}", table.name()));
        }
    }
    changed
}

/// Seals an example, reads it, writes it back, and compares.
async fn round_trip<T: DeserializeOwned + Serialize>(
    table: Table,
    example: &Value,
) -> Result<(), String> {
    let (store, keyring) = (Arc::new(MemoryStore::new()), Arc::new(Keyring::ephemeral()));
    let rows = DirectoryRows::new(store.clone(), keyring.clone());
    let at = RowId::new(table, &OrgId::default_org(), "row");
    let key = at.key();
    let place = Place { org: &at.org, table: table.name(), key: &key };
    let plain = format!(r#"{{"version":1,"record":{example}}}"#);
    let sealed = keyring.sealing().await.seal(&place, plain.as_bytes()).map_err(text)?;
    store.put(table, &key, &sealed, Expect::Absent).await.map_err(text)?;

    serde_json::from_value::<T>(example.clone()).map_err(|error| format!("not read: {error}"))?;
    let read = rows.read::<T>(&at).await.map_err(text)?.ok_or("there is no row")?;
    rows.write(&at, &read.record, Some(read.version)).await.map_err(text)?;
    let row = store.get(table, &key).await.map_err(text)?.ok_or("there is no row")?;
    let plain = keyring.open(&place, &row.value).map_err(text)?;
    let written: Value = serde_json::from_slice(&plain).map_err(text)?;
    let expected = serde_json::json!({"version": 2, "record": example});
    match written == expected {
        true => Ok(()),
        false => Err(format!("written back as {written}, expected {expected}")),
    }
}

fn text(error: impl Debug) -> String {
    format!("{error:?}")
}

#[tokio::test]
async fn rows_of_earlier_versions_are_read_and_written_back_unchanged() {
    let mut all = vec![];
    for table in Table::ALL {
        all.extend(changed_rows(table).await);
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[tokio::test]
async fn a_row_with_a_field_that_is_not_known_any_more_is_noticed() {
    let org = |more: &str| {
        let id = r#""id": "org_acme", "managed_by": "store", "created": "2026-01-02T03:04:05Z""#;
        format!(r#"{{"example": {{{id}{more}}}}}"#)
    };
    assert_eq!(changed::<Record<Org>>(Table::Orgs, &org("")).await, Vec::<String>::new());
    let gone = changed::<Record<Org>>(Table::Orgs, &org(r#", "gone": 1"#)).await;
    assert!(gone[0].starts_with("orgs, `example`: written back as"), "{gone:?}");
    let unread = changed::<Record<Honeytoken>>(Table::Honeytokens, &org("")).await;
    assert!(unread[0].starts_with("honeytokens, `example`: not read"), "{unread:?}");
}
