//! The upgrade test of sealed rows: rows that earlier versions wrote are read, and written back with the same
//! content.
//!
//! This folder has a file for each kind of row. **Examples are never edited or removed, only added**: where one
//! fails, the record type is wrong, not the example. The directory's rows have the same test
//! (`directory/tests/golden.rs` of `keyward-state`), which says how a stored record may change.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::events::WebhookSigningKeys;
use crate::grant::{AppSecret, Grant};
use crate::grants::apps::AppPurpose;
use crate::grants::record::{self, GrantHeader, RowPlace};
use crate::refresh::failures::FailureRow;
use crate::rows::SealedRows;
use keyward_base::id::{ConnectionId, OrgId};
use keyward_state::crypto::envelope::Place;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::{Expect, Row, Store, Table, Version};

/// The examples of a file, by name.
fn examples(file: &str) -> BTreeMap<String, Value> {
    let examples: BTreeMap<String, Value> = serde_json::from_str(file).expect("a file of examples");
    assert!(!examples.is_empty(), "the file has no example");
    examples
}

/// The examples of rows that [`SealedRows`] keeps which are not read, or not written back as they were.
pub(crate) async fn changed<T>(table: Table, file: &str) -> Vec<String>
where
    T: DeserializeOwned + Serialize,
{
    let mut changed = vec![];
    for (name, example) in examples(file) {
        if let Err(why) = round_trip::<T>(table, &example).await {
            changed.push(format!("{}, `{name}`: {why}", table.name()));
        }
    }
    changed
}

/// Seals an example, reads it, writes it back, and compares.
async fn round_trip<T>(table: Table, example: &Value) -> Result<(), String>
where
    T: DeserializeOwned + Serialize,
{
    let (store, keyring) = (Arc::new(MemoryStore::new()), Arc::new(Keyring::ephemeral()));
    let rows = SealedRows::<T>::new(store.clone(), keyring.clone(), table, "");
    let (org, key) = (OrgId::default_org(), "org_default/row");
    let place = Place { org: &org, table: table.name(), key };
    let plain = format!(r#"{{"version":1,"record":{example}}}"#);
    let sealed = keyring.sealing().await.seal(&place, plain.as_bytes()).map_err(text)?;
    store.put(table, key, &sealed, Expect::Absent).await.map_err(text)?;

    serde_json::from_value::<T>(example.clone()).map_err(|error| format!("not read: {error}"))?;
    let (record, version) = rows.get(&org, "row").await.map_err(text)?.ok_or("there is no row")?;
    rows.put(&org, "row", &record, Some(version)).await.map_err(text)?;
    let row = store.get(table, key).await.map_err(text)?.ok_or("there is no row")?;
    let plain = keyring.open(&place, &row.value).map_err(text)?;
    let written: Value = serde_json::from_slice(&plain).map_err(text)?;
    let expected = serde_json::json!({"version": 2, "record": example});
    match written == expected {
        true => Ok(()),
        false => Err(format!("written back as {written}, expected {expected}")),
    }
}

/// The examples of headers of sealed grants that do not open, or are not sealed as they were.
async fn changed_headers<T: DeserializeOwned + Serialize>(file: &str) -> Vec<String> {
    let mut changed = vec![];
    for (name, example) in examples(file) {
        if let Err(why) = header_round_trip::<T>(&example).await {
            changed.push(format!("`{name}`: {why}"));
        }
    }
    changed
}

/// A sealed grant is the row's version, the header's length, the header, and the grant.
async fn header_round_trip<T: DeserializeOwned + Serialize>(example: &Value) -> Result<(), String> {
    let (org, id) = (OrgId::default_org(), ConnectionId::random());
    let keyring = Keyring::ephemeral();
    let (key, grant) = (record::key(&org, &id), b"grantgrant");
    let place = Place { org: &org, table: Table::Grants.name(), key: &key };
    let header = example.to_string();
    let mut plain = 1_u64.to_be_bytes().to_vec();
    plain.extend(u32::try_from(header.len()).map_err(text)?.to_be_bytes());
    plain.extend(header.as_bytes());
    plain.extend(grant);
    let value = keyring.sealing().await.seal(&place, &plain).map_err(text)?;
    let row = Row { key: key.clone(), value, version: Version(1) };

    let (header, opened) = record::unsealed::<T>(&keyring, &org, &id, &row).map_err(text)?;
    let sealing = keyring.sealing().await;
    let again = record::seal(
        &sealing,
        &RowPlace { org: &org, id: &id, version: Version(2) },
        &header,
        &opened,
    )
    .map_err(text)?;
    let plain = keyring.open(&place, &again).map_err(text)?;
    let (version, rest) = plain.split_first_chunk::<8>().ok_or("no version")?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or("no length")?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(text)?;
    let (header, rest) = rest.split_at_checked(length).ok_or("no header")?;
    let written: Value = serde_json::from_slice(header).map_err(text)?;
    let same = *version == 2_u64.to_be_bytes() && written == *example && rest == grant;
    same.then_some(()).ok_or_else(|| format!("sealed again as {written}, expected {example}"))
}

fn text(error: impl Debug) -> String {
    format!("{error:?}")
}

/// Fails with the examples that were found.
pub(crate) fn assert_none(changed: &[String]) {
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

/// Files contain bytes as text: each character is one byte.
fn bytes(example: &Value) -> Vec<u8> {
    let text = example.as_str().expect("text");
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("a byte")).collect()
}

#[tokio::test]
async fn grants_that_earlier_versions_sealed_open_and_are_sealed_unchanged() {
    let of_grants = include_str!("grants.json");
    assert_none(&changed_headers::<GrantHeader>(of_grants).await);
    // A member that is not known any more would be kept as one of a newer version.
    for (name, example) in examples(of_grants) {
        let header: GrantHeader = serde_json::from_value(example).unwrap();
        assert!(header.unknown.is_empty(), "`{name}`: {:?}", header.unknown);
    }
    assert_none(&changed_headers::<AppPurpose>(include_str!("grants_of_apps.json")).await);
}

#[test]
fn grants_and_secrets_of_earlier_versions_are_decoded_and_encoded_unchanged() {
    for (name, example) in examples(include_str!("grant_bytes.json")) {
        let bytes = bytes(&example);
        let grant = Grant::decode(&bytes).unwrap_or_else(|error| panic!("`{name}`: {error}"));
        assert_eq!(*grant.encode(), bytes, "`{name}`");
    }
    for (name, example) in examples(include_str!("app_secret_bytes.json")) {
        let bytes = bytes(&example);
        let secret = AppSecret::decode(&bytes).unwrap_or_else(|error| panic!("`{name}`: {error}"));
        assert_eq!(*secret.encode(), bytes, "`{name}`");
    }
}

#[tokio::test]
async fn failures_of_refreshes_that_earlier_versions_stored_are_read_and_written_unchanged() {
    let file = include_str!("refreshes.json");
    assert_none(&changed::<FailureRow>(Table::Refreshes, file).await);
}

#[tokio::test]
async fn signing_keys_of_earlier_versions_are_read_and_written_unchanged() {
    let file = include_str!("webhook_keys.json");
    assert_none(&changed::<WebhookSigningKeys>(Table::WebhookKeys, file).await);
}

#[tokio::test]
async fn an_example_that_is_not_read_or_loses_a_field_is_noticed() {
    let (unread, lost) = (r#"{"a": {"key": "x"}}"#, r#"{"a": {"now": "x", "gone": 1}}"#);
    for (file, why) in [(unread, "not read"), (lost, "written back as")] {
        let found = changed::<WebhookSigningKeys>(Table::WebhookKeys, file).await;
        assert!(found[0].contains(why), "{found:?}");
    }
    let lost =
        r#"{"a": {"provider": "p", "client_id": "c", "variables": {}, "urls": {}, "gone": 1}}"#;
    assert!(changed_headers::<AppPurpose>(lost).await[0].contains("sealed again as"));
}
