//! Open streams under attack: they end with what they rest on, and one agent's cannot crowd out
//! another's.

use std::sync::Arc;

use keyward_app::Services;
use keyward_base::id::{AgentId, ConnectionId, OrgId};
use keyward_state::directory::ManagedBy;

use test_support::*;

/// What is taken away under an open answer.
#[derive(Clone, Copy, Debug)]
enum Gone {
    Token,
    Binding,
    Paused,
    Connection,
    Agent,
}

fn ids(services: &Arc<Services>) -> (OrgId, AgentId, ConnectionId) {
    let org = OrgId::default_org();
    let view = services.directory.view();
    let agent = view.find_agent(&org, "ci").expect("the agent").id.clone();
    let connection = view.find_connection(&org, "acme").expect("the connection").id.clone();
    (org, agent, connection)
}

async fn take_away(gone: Gone, services: &Arc<Services>) {
    let (org, agent, connection) = ids(services);
    let (directory, by) = (&services.directory, ManagedBy::File);
    match gone {
        Gone::Token => {
            let view = directory.view();
            let token = &view.agent(&org, &agent).expect("the agent").facts.tokens[0].id;
            directory.revoke_token_by(&org, &agent, token, by).await.expect("revoked");
        }
        Gone::Binding => {
            directory.unbind_by(&org, &agent, &connection, by).await.expect("unbound");
        }
        Gone::Paused => {
            directory.set_connection_paused(&org, &connection, true, by).await.expect("paused");
        }
        Gone::Connection => {
            services.vault.lifecycle().remove_by(&org, &connection, by).await.expect("removed");
        }
        Gone::Agent => {
            directory.remove::<keyward_model::Agent>(&org, &agent, by).await.expect("removed")
        }
    }
}

const ALL: [Gone; 5] = [Gone::Token, Gone::Binding, Gone::Paused, Gone::Connection, Gone::Agent];

/// In a tunnel, and to a request in absolute form.
#[tokio::test]
async fn removing_the_token_binding_connection_or_agent_ends_an_open_answer() {
    for (gone, is_tunnel) in ALL.into_iter().flat_map(|gone| [(gone, true), (gone, false)]) {
        let lab = Plan::api_key().start(Origin::endless()).await;
        let mut wire = match is_tunnel {
            true => lab.tunnel(HOST).await,
            false => lab.client().await,
        };
        let head = match is_tunnel {
            true => request_text("GET /a", HOST),
            false => {
                let authorization = lab.authorization("ci");
                format!("GET https://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\n{authorization}\r\n")
            }
        };
        wire.send(head).await;
        assert_eq!(wire.head().await.expect("a head").status(), 200);
        take_away(gone, lab.gateway.running().services()).await;
        let rest = wire.rest().await;
        assert!(rest.len() <= 5, "{gone:?}, tunnel: {is_tunnel}");
        let records = lab.finish().await;
        assert_eq!(records.len(), 1, "{gone:?}, tunnel: {is_tunnel}: {records:?}");
        assert_eq!(records[0]["outcome"], "ended", "{gone:?}, tunnel: {is_tunnel}");
    }
}

#[tokio::test]
async fn removing_the_agent_or_its_token_ends_its_idle_streams() {
    for gone in [Gone::Token, Gone::Agent] {
        let lab = Lab::simple().await;
        let (mut tunnel, mut plain) = (lab.tunnel(HOST).await, lab.client().await);
        tunnel.ask(request_text("GET /a", HOST)).await.is(200);
        let authorization = lab.authorization("ci");
        let head = format!("GET https://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\n{authorization}\r\n");
        plain.ask(head).await.is(200);
        take_away(Gone::Binding, lab.gateway.running().services()).await;
        tunnel.ask(request_text("GET /a", HOST)).await.is(403);
        take_away(gone, lab.gateway.running().services()).await;
        assert!(tunnel.is_closed().await && plain.is_closed().await, "{gone:?}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn removing_the_token_binding_connection_or_agent_closes_a_websocket_with_1008() {
    for gone in ALL {
        let origin = Origin::scripted(|mut stream: Stream| async move {
            if let Some(request) = stream.request().await {
                stream.send(switching(&request)).await;
                stream.rest().await;
            }
        });
        let lab = Plan::api_key().start(origin).await;
        let mut wire = lab.tunnel(HOST).await;
        let asks = "GET /a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        wire.send(request_text(asks, HOST)).await;
        assert_eq!(wire.head().await.expect("a head").status(), 101);
        take_away(gone, lab.gateway.running().services()).await;
        let rest = wire.rest().await;
        assert_eq!(rest, b"\x88\x14\x03\xf0access was revoked", "{gone:?}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn streams_of_absolute_form_requests_count_toward_streams_per_agent_max() {
    let plan = Plan::api_key().agent("other", "acme").limit("streams_per_agent_max: 2");
    let lab = plan.start(Origin::saying("fine")).await;
    let mut open = vec![];
    for (agent, status) in [("ci", 200), ("ci", 200), ("ci", 503), ("other", 200)] {
        let mut wire = lab.client().await;
        let authorization = lab.authorization(agent);
        for _ in 0..3 {
            let head =
                format!("GET https://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\n{authorization}\r\n");
            assert_eq!(wire.ask(head).await.head.status(), status, "{agent}");
        }
        open.push(wire);
    }
    let head = format!("CONNECT {HOST}:443 HTTP/1.1\r\n{}\r\n", lab.authorization("ci"));
    let mut third = lab.client().await;
    third.ask(&head).await.is(503);
    open[0].send(&head).await;
    assert_eq!(open[0].answer("CONNECT").await.head.status(), 200, "it has its place already");
    lab.finish().await;
}

#[tokio::test]
async fn unfinished_handshakes_of_one_agent_do_not_block_other_agents() {
    let plan = Plan::api_key().agent("other", "acme").limit("handshakes_max: 4");
    let lab = plan.limit("handshake_timeout: 20s").start(Origin::saying("fine")).await;
    let mut silent = vec![];
    for _ in 0..32 {
        silent.push(lab.connect(&format!("{HOST}:443")).await);
    }
    let began = std::time::Instant::now();
    assert_eq!(lab.ask_as("other", HOST, "GET /a").await.text(), "fine");
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    drop(silent);
    lab.finish().await;
}

#[tokio::test]
async fn an_upstream_stream_with_an_ntlm_challenge_is_not_used_again() {
    let origin = Origin::answering(|_: &Message| {
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\", NTLM\r\n\
         Content-Length: 0\r\n\r\n"
    });
    let lab = Plan::api_key().start(origin).await;
    for _ in 0..3 {
        assert_eq!(lab.ask("GET /a").await.head.status(), 401);
    }
    assert_eq!(lab.origin.streams(), 3);
    lab.finish().await;
}

#[tokio::test]
async fn upstream_streams_of_pass_requests_are_not_shared_between_client_streams() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        while stream.request().await.is_some() {
            let number = stream.number.to_string();
            stream.send(ok(&number)).await;
        }
    });
    let pass = format!("{{ name: open, hosts: [{HOST}], paths: [/open], action: pass }}");
    let lab = Plan::api_key().rule(&pass).start(origin).await;
    let (mut passed, mut injected) = (vec![], vec![]);
    // Each `ask` is a tunnel of its own. Enough of them that cores see several.
    for _ in 0..6 {
        injected.push(lab.ask("GET /a").await.text());
        passed.push(lab.ask("GET /open").await.text());
    }
    for (index, number) in passed.iter().enumerate() {
        assert!(!injected.contains(number), "{passed:?} {injected:?}");
        assert!(!passed[..index].contains(number), "{passed:?}");
    }
    lab.finish().await;
}
