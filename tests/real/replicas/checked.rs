//! `keyward store check` of a database: beside a gateway, and repaired when none runs. `keyward doctor` without a gateway.

use super::outdated::keyward;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_checked_beside_a_gateway_and_repaired_without_one() {
    let (database, mut lab) = Database::with_lab().await;
    assert_eq!(ask_at(&lab, &lab.gateway, "ci").await.head.status(), 200);
    let check = |lab: &Lab, more: &[&str]| {
        let words = [&["store", "check"], more].concat();
        keyward(&database, &lab.gateway, &words)
    };
    let sound = check(&lab, &[]);
    assert!(sound.0 && sound.1.contains("no faults"), "{sound:?}");
    // A damaged token, and a name of nothing.
    database.server.sql(
        "app",
        "UPDATE keyward_rows SET value = set_byte(value, 30, get_byte(value, 30) # 1) WHERE tbl = 'tokens'; \
         INSERT INTO keyward_rows (tbl, key, version, value) VALUES ('names', 'org_default/stray', 1, 'x')",
    );
    let broken = check(&lab, &[]);
    assert!(!broken.0 && broken.1.contains("index: tokens row"), "{broken:?}");
    assert!(broken.1.contains("index: names row org_default/stray"), "{broken:?}");
    let running = check(&lab, &["--repair"]);
    assert!(!running.0 && running.1.contains("gateways use this store"), "{running:?}");
    lab.gateway.stop().await;
    until("the end of its lease", async || {
        database.server.sql("app", "SELECT count(*) FROM keyward_leases WHERE until > now()") == "0"
    })
    .await;
    let repaired = check(&lab, &["--repair"]);
    assert!(repaired.0 && repaired.1.contains("store.before-repair-"), "{repaired:?}");
    let sound = check(&lab, &[]);
    assert!(sound.0 && sound.1.contains("no faults"), "{sound:?}");
    lab.gateway.restart().await;
    assert_eq!(ask_at(&lab, &lab.gateway, "ci").await.head.status(), 200);
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_checks_the_resources_of_the_database_while_no_gateway_runs() {
    let database = Database::start();
    let plan = database.under(Plan::api_key());
    let mut lab = plan.start(Origin::saying("fine")).await;
    lab.gateway.stop().await;
    let (_, said) = keyward(&database, &lab.gateway, &["doctor"]);
    assert!(said.contains("every agent has a connection (1)"), "{said}");
    assert!(said.contains("every connection works and has an agent (1)"), "{said}");
    assert!(!said.contains("not checked"), "{said}");
    lab.gateway.restart().await;
    lab.finish().await;
}
