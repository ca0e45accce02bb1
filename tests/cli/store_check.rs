//! `keyward store check` on real stores, by a running gateway and without one: faults named with exit code 1, indexes
//! repaired after a copy, and the repaired store serves.

use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use keyward_state::store::sled::SledStore;
use keyward_state::store::{Expect, RowRange, Store, Table};
use serde_json::{Value, json};

use test_support::process::{Served, said};
use test_support::*;

const SECRET: &str = "secret-of-own-0123456789";

fn output(mut command: Command) -> Output {
    command.stdin(Stdio::null()).output().expect("it runs")
}

/// A gateway with an agent, a connection and a binding in its store; and the agent's token.
async fn served() -> (Served, Origin, String) {
    let origin = Origin::saying("fine");
    let plan = Plan::api_key();
    let served = Served::start(&plan, &origin, &[]);
    let mut token = String::new();
    for (path, body) in [
        (
            "/connections",
            json!({
                "provider": "acme", "auth": "key", "name": "own",
                "fields": { "api_key": SECRET },
            }),
        ),
        ("/agents", json!({ "name": "reader" })),
        ("/agents/reader/tokens", json!({})),
        ("/agents/reader/bindings", json!({ "connection": "own" })),
    ] {
        let answer = served.api("POST", path, &body.to_string()).await;
        assert_eq!(answer.head.status(), 201, "{path}: {}", answer.text());
        if let Some(issued) = answer.json()["token"].as_str() {
            issued.clone_into(&mut token);
        }
    }
    (served, origin, token)
}

/// The report in JSON, and the exit code.
fn check(served: &Served, more: &[&str]) -> (Value, Option<i32>) {
    let arguments = [&["--json", "store", "check"], more].concat();
    let output = output(served.keyward(&arguments));
    let json = serde_json::from_slice(&output.stdout);
    (json.unwrap_or_else(|_| panic!("{}", said(&output))), output.status.code())
}

async fn store(served: &Served) -> Arc<dyn Store> {
    Arc::new(SledStore::open(&served.data().join("store")).await.expect("it is closed"))
}

#[tokio::test]
async fn a_sound_store_has_no_faults_and_a_repair_needs_the_gateway_stopped() {
    let (mut served, _origin, _) = served().await;
    let beside = output(served.keyward(&["store", "check", "--repair"]));
    let text = said(&beside);
    assert_eq!(beside.status.code(), Some(1), "{text}");
    assert!(
        text.contains("store is locked by process")
            && text.contains("hint: stop the gateway first\n"),
        "{text}"
    );
    let (report, code) = check(&served, &[]);
    assert_eq!((report["faults"].clone(), code), (json!([]), Some(0)), "{report}");
    let by_api = served.api("POST", "/store/check", "{}").await.is(200);
    assert_eq!(by_api.json()["faults"], json!([]));
    served.terminate();
    let (report, code) = check(&served, &[]);
    assert_eq!((report["faults"].clone(), code), (json!([]), Some(0)), "{report}");
    assert!(report["rows"].as_u64().expect("a number") > 5, "{report}");
    let (report, code) = check(&served, &["--repair"]);
    assert_eq!((report["repaired"].clone(), code), (json!(0), Some(0)));
    assert!(report.get("copy").is_none(), "nothing to repair is nothing to copy: {report}");
}

#[tokio::test]
async fn a_gateway_names_the_faults_of_its_store_and_checks_it_once_at_a_time() {
    let (mut served, _origin, _) = served().await;
    served.terminate();
    {
        let store = store(&served).await;
        let grants = store.list(Table::Grants, RowRange::first(9)).await.expect("grants");
        // They are read when a connection is used first, so the gateway starts. It writes that of the file again.
        for grant in &grants {
            let mut damaged = grant.value.clone();
            *damaged.last_mut().expect("bytes") ^= 1;
            store.reseal(Table::Grants, grant, &damaged).await.expect("written");
        }
    }
    served.restart();
    let (report, code) = check(&served, &[]);
    let faults = report["faults"].as_array().expect("a list");
    assert_eq!((faults.len(), code), (1, Some(1)), "{report}");
    assert_eq!([&faults[0]["table"], &faults[0]["kind"]], ["grants", "unreadable"], "{report}");
    let text = said(&output(served.keyward(&["store", "check"])));
    assert!(text.contains("unreadable: grants row") && text.contains("1 fault"), "{text}");
    // With a fault, a check looks twice, two seconds apart.
    let (one, two) = tokio::join!(
        served.api("POST", "/store/check", "{}"),
        served.api("POST", "/store/check", "{}"),
    );
    let mut both = [one, two];
    both.sort_by_key(|answer| answer.head.status());
    assert_eq!(both.each_ref().map(|answer| answer.head.status()), [200, 422]);
    assert_eq!(both[0].json()["faults"], report["faults"]);
    assert!(both[1].text().contains("being checked already"), "{}", both[1].text());
    let agents = served.api("GET", "/agents", "").await;
    assert!(agents.text().contains("reader"), "it still serves: {}", agents.text());
}

#[tokio::test]
async fn a_broken_index_is_reported_and_repaired_after_a_copy_of_the_store() {
    let (mut served, origin, token) = served().await;
    served.terminate();
    let before = {
        let store = store(&served).await;
        let rows = store.snapshot().await.expect("it reads");
        // A name is lost, a token is damaged, and a stray name stays.
        let names = store.list(Table::Names, RowRange::first(9)).await.expect("names");
        store.delete(Table::Names, &names[0].key, Expect::Any).await.expect("deleted");
        let tokens = store.list(Table::Tokens, RowRange::first(9)).await.expect("tokens");
        let mut damaged = tokens[0].value.clone();
        damaged[30] ^= 1;
        store.reseal(Table::Tokens, &tokens[0], &damaged).await.expect("written");
        store
            .put(Table::Names, "org_default/stray", &names[0].value, Expect::Absent)
            .await
            .expect("put");
        rows.rows().len()
    };
    let (report, code) = check(&served, &[]);
    let kinds: Vec<_> =
        report["faults"].as_array().expect("a list").iter().map(|it| it["kind"].as_str()).collect();
    assert_eq!((kinds, code), (vec![Some("index"); 3], Some(1)), "{report}");
    let text = said(&output(served.keyward(&["store", "check"])));
    assert!(text.contains("keyward store check --repair") && text.contains("3 faults"), "{text}");
    let (report, code) = check(&served, &["--repair"]);
    assert_eq!((report["faults"].clone(), code), (json!([]), Some(0)), "{report}");
    assert_eq!(report["repaired"], 4, "{report}");
    let copy = report["copy"].as_str().expect("a path");
    assert!(copy.contains("store.before-repair-"), "{copy}");
    {
        // The copy has the rows as they were.
        let copy = SledStore::open(std::path::Path::new(copy)).await.expect("it opens");
        let rows = copy.snapshot().await.expect("it reads");
        assert_eq!(rows.rows().len(), before);
        assert!(copy.get(Table::Names, "org_default/stray").await.expect("it reads").is_some());
    }
    served.restart();
    served.api("POST", "/agents", &json!({ "name": "reader" }).to_string()).await.is(409);
    let mut wire = Wire::to(served.proxy).await;
    wire.ask(absolute("GET /", HOST, &token)).await.is(200);
    assert_eq!(origin.received()[0].head.one("x-api-key"), Some(SECRET));
}

#[tokio::test]
async fn an_unreadable_row_and_a_lost_grant_are_reported_and_not_repaired() {
    let (mut served, _origin, _) = served().await;
    served.terminate();
    {
        let store = store(&served).await;
        let grants = store.list(Table::Grants, RowRange::first(9)).await.expect("grants");
        store.delete(Table::Grants, &grants[0].key, Expect::Any).await.expect("deleted");
        let orphan = "org_default/con_00000000000000000000";
        store.put(Table::Grants, orphan, &grants[0].value, Expect::Absent).await.expect("put");
    }
    let (report, code) = check(&served, &[]);
    let text = report.to_string();
    assert_eq!(code, Some(1));
    assert!(text.contains("has no stored secret"), "{text}");
    assert!(text.contains("keyward connection reconnect "), "{text}");
    let agents = {
        let store = store(&served).await;
        let agents = store.list(Table::Agents, RowRange::first(9)).await.expect("agents");
        let mut damaged = agents[0].value.clone();
        *damaged.last_mut().expect("bytes") ^= 1;
        store.reseal(Table::Agents, &agents[0], &damaged).await.expect("written");
        agents[0].key.clone()
    };
    let rows = async || store(&served).await.snapshot().await.expect("it reads");
    let before = rows().await;
    let (report, code) = check(&served, &[]);
    let faults = report["faults"].as_array().expect("a list");
    let broken = faults.iter().find(|it| it["key"] == *agents).expect("it is named");
    assert_eq!((broken["kind"].as_str(), code), (Some("unreadable"), Some(1)), "{report}");
    assert!(broken["remedy"].as_str().expect("text").contains("keyward restore"), "{broken}");
    let refused = output(served.keyward(&["store", "check", "--repair"]));
    let text = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("nothing was changed") && text.contains(&agents), "{text}");
    assert_eq!(rows().await, before);
    assert_eq!(check(&served, &[]).0["faults"], report["faults"]);
}
