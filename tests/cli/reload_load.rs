//! Changes at full rate under load: no request fails that the old and the new rules allow.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use test_support::process::soak;
use test_support::*;

const CLIENTS: usize = 6;

/// One of many configurations, all of which let `ci` ask [`HOST`] for `/always`.
fn variant(base: &str, number: usize) -> String {
    let mut connections = String::new();
    let mut agents = String::new();
    for extra in (0..4).filter(|extra| !(number + extra).is_multiple_of(3)) {
        let environment = if number.is_multiple_of(5) { ", environment: dev" } else { "" };
        connections += &format!(
            "  - {{ name: extra{extra}, provider: acme, fields: {{ api_key: {{ env: CANARY }} }}\
             {environment} }}\n"
        );
        agents += &format!("  - {{ name: extra{extra}, use: [extra{extra}] }}\n");
    }
    let deny =
        format!("  - {{ name: no{number}, hosts: [{HOST}], paths: [/never], action: deny }}\n");
    let rules = match number % 4 {
        0 => deny,
        1 => format!("{deny}  - {{ name: grant, agents: [ci], hosts: [{HOST}], use: acme }}\n"),
        2 => format!("  - {{ name: narrow, hosts: [{HOST}], methods: [GET], use: acme }}\n"),
        _ => format!("  - {{ name: t{number}, hosts: [{STRANGER}], action: tunnel }}\n"),
    };
    // With a rule as the grant, the binding may go.
    let base = match number % 4 {
        1 => base.replace("use: [acme]", "use: []"),
        _ => base.to_owned(),
    };
    let with_connections = base.replace("agents:\n", &format!("{connections}agents:\n{agents}"));
    format!("{with_connections}rules:\n{rules}")
}

async fn ask(wire: &mut Wire, request: &str) {
    wire.send(request).await;
    let answer = wire.try_answer("GET").await.expect("an answer");
    assert_eq!(answer.head.status(), 200, "{answer:?} {}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_that_all_rules_allow_fails_while_they_change() {
    // The disk's part is in the long run: it only makes changes rarer.
    let store = if soak() { "" } else { "store: { memory: {} }" };
    let plan = Plan::api_key().top(store);
    let lab = Arc::new(plan.start(Origin::saying("fine")).await);
    let file = lab.gateway.folder().join("keyward.yaml");
    let base = fs::read_to_string(&file).expect("the configuration");
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (lab, stop, asked) = (lab.clone(), stop.clone(), asked.clone());
            tokio::spawn(async move {
                let inner = request_text("GET /always", HOST);
                let absolute = format!(
                    "GET https://{HOST}/always HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n",
                    lab.authorization("ci")
                );
                let (mut tunnel, mut plain) = (lab.tunnel(HOST).await, lab.client().await);
                while !stop.load(Relaxed) {
                    match number % 3 {
                        0 => ask(&mut tunnel, &inner).await,
                        1 => ask(&mut plain, &absolute).await,
                        _ => ask(&mut lab.tunnel(HOST).await, &inner).await,
                    }
                    asked.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    let changes = if soak() { 1_000 } else { 200 };
    for number in 0..changes {
        let beside = file.with_extension("new");
        fs::write(&beside, variant(&base, number)).expect("a file");
        fs::rename(beside, &file).expect("renamed");
        let view = lab.gateway.running().reloads().reload().await.expect("it runs");
        assert_eq!(view.errors, [""; 0], "change {number}");
        assert!(clients.iter().all(|client| !client.is_finished()), "change {number}");
    }
    stop.store(true, Relaxed);
    for client in clients {
        client.await.expect("no request failed");
    }
    assert!(asked.load(Relaxed) > changes, "there was load: {}", asked.load(Relaxed));
    Arc::into_inner(lab).expect("the clients have ended").finish().await;
}
