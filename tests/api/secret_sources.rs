//! Secret sources: fields whose values are kept elsewhere. `local` has sources of the gateway's machine, `refused` what must
//! not be, `remote` services over HTTPS, by answers from their documents.

mod bitwarden;
mod local;
mod referred;
mod refused;
mod remote;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use test_support::api::api;
use test_support::canary::Canary;
use test_support::*;

/// A provider with one key, and connection `acme` with it at `reference` in source `kept`.
fn plan(reference: &str) -> Plan {
    Plan::new(
        "{ id: key, kind: api_key, placement: { header: X-Api-Key } }",
        &format!("{{ api_key: {{ from: kept, ref: '{reference}' }} }}"),
    )
}

/// The same, with the source as the rest of its item.
fn planned(source: &str, reference: &str) -> Plan {
    plan(reference).top(&format!("sources:\n  - {{ name: kept, {source} }}"))
}

/// Writes a file of the source whole, as Kubernetes and secret agents do.
fn write(folder: &Path, name: &str, text: &str) {
    let beside = folder.join(".new");
    fs::write(&beside, text).expect("a file");
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).expect("ours");
    fs::rename(beside, folder.join(name)).expect("renamed");
}

/// A folder with one value.
fn folder(name: &str, value: &Canary) -> TempDir {
    let folder = TempDir::new().expect("a directory");
    write(folder.path(), name, &format!("{}\n", value.text));
    folder
}

async fn connection(lab: &Lab) -> Value {
    api(lab, "GET", "/connections/acme", Value::Null, 200).await
}

/// Asks until the origin receives this key.
async fn arrives(lab: &mut Lab, key: &Canary) {
    let asked =
        async { while lab.delivered("GET /a").await.one("x-api-key") != Some(&*key.text) {} };
    patiently("the new value", asked).await;
}

/// Asks until Keyward refuses for want of a value.
async fn is_refused(lab: &Lab) -> Message {
    let answer = until_some("a refusal", async || {
        let answer = lab.ask("GET /a").await;
        (answer.head.status() != 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.head.status(), 503, "{}", answer.text());
    assert_eq!(answer.json()["error"]["code"], "source_unavailable", "{}", answer.text());
    assert!(answer.head.has("retry-after"), "{answer:?}");
    answer
}
