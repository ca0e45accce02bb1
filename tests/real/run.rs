//! Programs in `keyward run`, as their users start them: nothing is set but what it sets.

use std::process::Command;

use crate::stage::{run, said};
use crate::support::install::Install;
use crate::support::*;

/// Old Node's own fetch and https, and an agent as SDKs make their own.
const NODE_FETCH: &str = "
fetch('https://api.acme.test/a').then(async (answer) => {
  console.log(await answer.text()); process.exit(answer.ok ? 0 : 1);
});";
const NODE_HTTPS: &str = "
require('https').get('https://api.acme.test/a', (answer) => {
  answer.pipe(process.stdout); answer.on('end', () => process.exit(answer.statusCode === 200 ? 0 : 1));
});";
const NODE_AGENT: &str = "
const https = require('https');
const agent = new https.Agent({ keepAlive: true, maxSockets: 2 });
const get = () => new Promise((done, failed) => {
  https.get({ host: 'api.acme.test', path: '/a', agent }, (answer) => {
    answer.on('data', (piece) => process.stdout.write(piece));
    answer.on('end', () => done(answer.statusCode));
  }).on('error', failed);
});
get().then((status) => process.exit(status === 200 ? 0 : 1));";
const PYTHON: &str = "
import urllib.request
print(urllib.request.urlopen('https://api.acme.test/a').read().decode())";

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
        let origin = origin.await;
        Self { install: Install::new(&plan, &origin), origin, canary: plan.canary().clone() }
    }

    fn command(&self, program: &[&str]) -> Command {
        let mut command = self.install.keyward(&["run", "--agent", "ci", "--"]);
        command.args(program);
        command
    }
}

async fn is_served(program: &[&str]) {
    let stage = Stage::new().await;
    let output = run(stage.command(program)).await;
    let said = said(&output);
    assert!(output.status.success() && said.contains("fine"), "{}: {said}", output.status);
    stage.canary.assert_absent("what the program said", said.as_bytes());
    let raw = stage.origin.only().head.raw;
    assert_eq!(String::from_utf8_lossy(&raw).matches(&stage.canary.text).count(), 1);
    stage.canary.assert_absent_below(&stage.install.data());
    stage.install.until("the private gateway is gone", || !stage.install.is_served());
}

#[tokio::test]
async fn curl_is_served() {
    is_served(&["curl", "-sS", "--max-time", "20", "https://api.acme.test/a"]).await;
}

#[tokio::test]
async fn wget_is_served() {
    is_served(&["wget", "-O-", "--tries=1", "--timeout=20", "https://api.acme.test/a"]).await;
}

#[tokio::test]
async fn python_is_served() {
    is_served(&["python3", "-c", PYTHON]).await;
}

#[tokio::test]
async fn nodes_fetch_is_served() {
    is_served(&["node", "-e", NODE_FETCH]).await;
}

#[tokio::test]
async fn nodes_https_is_served() {
    is_served(&["node", "-e", NODE_HTTPS]).await;
}

#[tokio::test]
async fn an_sdks_own_agent_in_node_is_served() {
    is_served(&["node", "-e", NODE_AGENT]).await;
}

/// A program of a run asks, waits for a line, and asks again with what it was started with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_began_before_the_ca_was_rotated_goes_on() {
    let stage = Stage::new().await;
    let ask = "curl -sS --max-time 20 https://api.acme.test/a && echo";
    let mut ran = stage.install.script(&format!("{ask} && read go && {ask}"));
    assert_eq!(ran.line(), "fine");
    let rotated = run(stage.install.keyward(&["ca", "rotate"])).await;
    assert!(rotated.status.success(), "{}", said(&rotated));
    ran.say("go");
    assert_eq!(ran.line(), "fine");
    assert_eq!(ran.code(), Some(0));
    let requests = stage.origin.received();
    assert!(requests.iter().all(|r| r.head.all("x-api-key") == [&*stage.canary.text]));
}
