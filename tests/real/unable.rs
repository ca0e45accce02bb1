//! Programs that cannot authenticate to a proxy, in a run: their agent has a listener of its own,
//! which knows them by that.

use crate::api::OPENAI;
use crate::served::{Program, Stage};
use crate::stage::{run, said};
use crate::support::process::free_address;

/// A stage whose agent has a listener, and where that is.
async fn stage() -> (Stage, std::net::SocketAddr) {
    let at = free_address();
    let listener = format!("agents: [{{ agent: ci, at: \"{at}\", unsafe_no_auth: true }}]");
    let stage = Stage::answering(&OPENAI, OPENAI.answer, |plan| plan.listen(&listener));
    (stage.await, at)
}

#[tokio::test]
async fn java_s_own_clients_are_served_without_an_authenticator() {
    let (stage, at) = stage().await;
    let port = format!("-Dhttps.proxyPort={}", at.port());
    let java = Program::of(&["java", &port, "Plain.java"]).with("java/Plain.java");
    let output = run(stage.command(&java)).await;
    stage.assert_served(&output, &["GET /v1/models", "GET /v1/models"]);
}

#[tokio::test]
async fn java_without_either_is_told_that_the_proxy_wants_credentials() {
    let stage = Stage::of(&OPENAI).await;
    let java = Program::of(&["java", "Plain.java"]).with("java/Plain.java");
    let output = run(stage.command(&java)).await;
    assert!(!output.status.success() && said(&output).contains("407"), "{}", said(&output));
    assert_eq!(stage.origin.received().len(), 0);
}

/// What a user does once, and what Chromium takes of a proxy.
const CHROMIUM: &str = "
mkdir -p .pki/nssdb
certutil -d sql:.pki/nssdb -N --empty-password
certutil -d sql:.pki/nssdb -A -t C,, -n keyward -i \"$NODE_EXTRA_CA_CERTS\"
chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \\
    --disable-background-networking --user-data-dir=profile --proxy-server=\"http://$1\" \\
    --dump-dom https://api.openai.com/v1/models > page
grep -o '\"id\":\"fine\"' page
echo 'answer: fine'";

#[tokio::test]
async fn chromium_is_served() {
    let (stage, at) = stage().await;
    let chromium = Program::shell(CHROMIUM).argument(&at.to_string());
    let output = run(stage.command(&chromium)).await;
    stage.assert_served(&output, &["GET /v1/models"]);
}
