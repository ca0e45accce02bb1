//! A run during a CA rotation: the environment of a running program stays valid.

use crate::stage::succeeded;
use test_support::install::Install;
use test_support::*;

struct Stage {
    install: Install,
    origin: Origin,
    canary: canary::Canary,
}

impl Stage {
    async fn new() -> Self {
        let plan = Plan::api_key();
        let live = plan.canary().text.clone();
        let origin = Origin::answering(move |request: &Message| {
            match request.head.all("x-api-key")[..] == [&*live] {
                true => ok("fine"),
                false => "HTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\nno! ".to_owned(),
            }
        });
        Self { install: Install::new(&plan, &origin), origin, canary: plan.canary().clone() }
    }
}

/// A program of a run asks, waits for a line, and asks again with what it was started with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_began_before_the_ca_was_rotated_goes_on() {
    let stage = Stage::new().await;
    let ask = "curl -sS --max-time 20 https://api.acme.test/a && echo";
    let mut ran = stage.install.script(&format!("{ask} && read go && {ask}"));
    assert_eq!(ran.line(), "fine");
    succeeded(stage.install.keyward(&["ca", "rotate"])).await;
    ran.say("go");
    assert_eq!(ran.line(), "fine");
    assert_eq!(ran.code(), Some(0));
    let requests = stage.origin.received();
    assert!(requests.iter().all(|r| r.head.all("x-api-key") == [&*stage.canary.text]));
}
