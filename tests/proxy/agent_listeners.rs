//! Listeners of one agent: each client that can reach the listener acts as that agent; no other agent can use it.

use std::os::unix::fs::PermissionsExt;

use keyward_app::config::ListenAt;
use tokio::net::UnixStream;

use test_support::*;

const AT: &str = "agents: [{ agent: ci, at: '127.0.0.1:0', unsafe_no_auth: true }, \
                  { agent: ci, at: 'unix:ci.sock' }, { agent: nobody, at: 'unix:nobody.sock' }]";

async fn lab() -> Lab {
    Plan::api_key().listen(AT).start(Origin::saying("fine")).await
}

async fn over_tcp(lab: &Lab) -> Wire {
    let (_, at) = &lab.gateway.running().agent_addrs()[0];
    lab.client_at(at.tcp().expect("TCP")).await
}

async fn over_unix(lab: &Lab, index: usize) -> Wire {
    let (_, at) = &lab.gateway.running().agent_addrs()[index];
    let ListenAt::Unix(path) = at else { panic!("{at} is no socket") };
    let mode = std::fs::metadata(path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for its owner alone");
    let stream = UnixStream::connect(path).await.expect("it listens");
    Wire::over(stream, None, Default::default())
}

#[tokio::test]
async fn a_client_without_credentials_acts_as_the_agent_over_tcp_and_unix_sockets() {
    let lab = lab().await;
    for mut wire in [over_tcp(&lab).await, over_unix(&lab, 1).await] {
        wire.ask(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n")).await.is(200);
        let mut wire = lab.secure(wire, HOST).await;
        assert_eq!(wire.ask(request_text("GET /a", HOST)).await.text(), "fine");
    }
    assert_eq!(lab.origin.received().len(), 2);
    for record in lab.finish().await {
        assert_eq!((&record["agent"], &record["token"]), (&"ci".into(), &serde_json::Value::Null));
    }
}

#[tokio::test]
async fn a_proxy_authorization_field_is_neither_read_nor_forwarded() {
    let mut lab = lab().await;
    for line in ["Basic bm9ib2R5OndyZW5n", "Negotiate x", "Bearer kwa_wrong"] {
        let mut wire = over_tcp(&lab).await;
        wire.send(format!(
            "GET https://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\nProxy-Authorization: {line}\r\n\r\n"
        ))
        .await;
        assert_eq!(wire.answer("GET").await.text(), "fine", "{line}");
        assert!(!lab.origin.arrival().await.head.has("proxy-authorization"), "{line}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn the_listener_of_a_missing_agent_refuses_requests_and_names_the_agent() {
    let lab = lab().await;
    let mut wire = over_unix(&lab, 2).await;
    let answer = wire.ask(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n")).await;
    assert_eq!((answer.head.status(), answer.head.one("proxy-authenticate")), (403, None));
    assert_eq!(answer.head.one("keyward-error"), Some("agent_unavailable"));
    assert!(answer.text().contains("`nobody`"), "{}", answer.text());
    lab.finish_unreached().await;
}

#[tokio::test]
async fn pausing_an_agent_ends_its_streams_and_refuses_new_requests_on_its_listener() {
    let lab = lab().await;
    let mut wire = over_tcp(&lab).await;
    wire.ask(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n")).await.is(200);
    let mut open = lab.secure(wire, HOST).await;
    let services = lab.gateway.running().services();
    let view = services.directory.view();
    let agent = view.agents().find(|agent| agent.name() == "ci").expect("the agent");
    services
        .directory
        .change::<keyward_model::Agent>(&agent.org, &agent.id, |it| it.facts.paused = true)
        .await
        .expect("paused");
    assert!(open.is_closed().await);
    let mut wire = over_tcp(&lab).await;
    wire.ask(format!("GET https://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await.is(403);
    lab.finish().await;
}

#[tokio::test]
async fn an_origin_form_request_as_a_web_page_sends_it_is_refused() {
    let lab = lab().await;
    let mut wire = over_tcp(&lab).await;
    wire.send(format!("GET /a HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert_eq!(wire.answer("GET").await.head.status(), 400, "an origin-form request");
    lab.finish().await;
}

#[tokio::test]
async fn a_request_to_the_address_of_an_agent_listener_is_refused() {
    let rule = "{ name: open, hosts: [\"127.0.0.1:*\"], action: pass }";
    let lab = Plan::api_key().listen(AT).allow("127.0.0.0/8:*");
    let lab = lab.start(Origin::saying("fine")).await;
    let at = lab.gateway.running().agent_addrs()[0].1.tcp().expect("TCP");
    let file = lab.gateway.folder().join("keyward.yaml");
    let yaml = std::fs::read_to_string(&file).expect("the configuration");
    let rule = rule.replace("127.0.0.1:*", &at.to_string());
    std::fs::write(&file, format!("{yaml}rules:\n  - {rule}\n")).expect("written");
    let view = lab.gateway.running().reloads().reload().await.expect("it runs");
    assert_eq!(view.errors, [""; 0]);
    let mut wire = over_tcp(&lab).await;
    let answer = wire.ask(format!("GET http://{at}/a HTTP/1.1\r\nHost: {at}\r\n\r\n")).await;
    assert_eq!(answer.head.one("keyward-error"), Some("address_refused"), "{}", answer.text());
    lab.finish().await;
}
