//! Chromium, which has its own rules for certificates and sends no proxy credentials from its command line: a
//! forwarder adds them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::stage::*;
use test_support::http2::{Ask, Offer, Reply};
use test_support::*;

/// A listener that puts the agent's credentials into the first head of every stream.
async fn forwarder(lab: &Lab) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let at = listener.local_addr().expect("an address");
    let (proxy, authorization) = (lab.gateway.proxy, lab.authorization("ci"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(forward(stream, proxy, authorization.clone()));
        }
    });
    at
}

/// Ends with either side; what that means is for them to say.
async fn forward(mut from: TcpStream, proxy: SocketAddr, authorization: String) {
    let mut head = vec![];
    while wire::find(&head, b"\r\n").is_none() {
        if from.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let line = wire::find(&head, b"\r\n").expect("it was waited for") + 2;
    head.splice(line..line, authorization.into_bytes());
    let Ok(mut to) = TcpStream::connect(proxy).await else { return };
    if to.write_all(&head).await.is_ok() {
        drop(tokio::io::copy_bidirectional(&mut from, &mut to).await);
    }
}

/// A browser that writes down the page it got.
fn chromium(lab: &Lab, proxy: SocketAddr) -> Command {
    let mut chromium = program(lab, "chromium");
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    chromium.args(["--no-first-run", "--disable-background-networking", "--log-net-log=net.json"]);
    chromium.args(["--net-log-capture-mode=Everything", "--user-data-dir=profile"]);
    chromium.arg(format!("--proxy-server=http://{proxy}"));
    chromium.args(["--dump-dom", "https://api.acme.test/page"]);
    chromium
}

/// What a user does once: the CA into the database that Chromium reads.
async fn trust_the_ca(lab: &Lab) {
    let ca = ca(lab);
    let database = lab.gateway.folder().join(".pki/nssdb");
    std::fs::create_dir_all(&database).expect("a directory");
    let database = format!("sql:{}", Path::new(".pki/nssdb").display());
    for arguments in [
        &["-N", "--empty-password"][..],
        &["-A", "-t", "C,,", "-n", "keyward", "-i", ca.to_str().expect("a path of letters")],
    ] {
        let mut certutil = program(lab, "certutil");
        certutil.args(["-d", &database]).args(arguments);
        succeeded(certutil).await;
    }
}

#[tokio::test]
async fn chromium_accepts_the_leaf_and_is_served() {
    is_served(lab().await).await;
}

#[tokio::test]
async fn after_a_rotation_chromium_accepts_the_chain_by_either_root() {
    for trusts in [Trusts::Former, Trusts::Current] {
        is_served(rotated(trusts).await).await;
    }
}

async fn is_served(lab: Lab) {
    let proxy = forwarder(&lab).await;
    trust_the_ca(&lab).await;
    let output = run(chromium(&lab, proxy)).await;
    let said = said(&output);
    assert!(output.status.success() && said.contains(">fine<"), "{}: {said}", output.status);
    lab.canary.assert_absent("what Chromium said", said.as_bytes());
    for request in lab.origin.received() {
        assert_injected(&request, &lab.canary.text);
    }
    let pages = lab.origin.received().iter().filter(|r| r.head.target() == "/page").count();
    assert_eq!(pages, 1);
    // Its own log of every byte lies in the gateway's folder, where secrets are looked for.
    lab.finish().await;
}

#[tokio::test]
async fn chromium_refuses_the_leaf_of_a_ca_that_it_does_not_know() {
    let lab = lab().await;
    let proxy = forwarder(&lab).await;
    let output = run(chromium(&lab, proxy)).await;
    let said = said(&output);
    assert!(said.contains("ERR_CERT_AUTHORITY_INVALID"), "{said}");
    lab.finish_after(0).await;
}

/// The page is loaded when its picture is, and that comes when its script has seen three events.
const PAGE: &str = "<!DOCTYPE html><title>a page</title><img src=/wait><script>
let count = 0;
const events = new EventSource('/events');
events.onmessage = (event) => {
  document.body.append(`${event.data} `);
  count += 1;
  if (count === 3) fetch('/seen', { method: 'POST', body: 'x'.repeat(100000) });
};
</script><body>";

#[tokio::test]
async fn chromium_loads_a_page_and_an_event_source_over_http2() {
    let seen = Arc::new(Notify::new());
    let http2 = move |mut ask: Ask| {
        let seen = Arc::clone(&seen);
        async move {
            let request = ask.whole().await;
            let html = vec![("content-type", "text/html")];
            match request.head.target() {
                "/page" => ask.reply(&Reply { fields: html, ..Reply::ok(PAGE) }).await,
                "/events" => {
                    let fields = [("content-type", "text/event-stream")];
                    let mut events = ask.begin(200, &fields, false).expect("asked");
                    for number in 0..3 {
                        assert!(events.send(format!("data: event{number}\n\n").as_bytes()).await);
                        tokio::task::yield_now().await;
                    }
                    let _ = events.given_up().await;
                }
                "/seen" => {
                    assert_eq!(request.body.len(), 100_000);
                    ask.reply(&Reply::ok("")).await;
                    seen.notify_one();
                }
                "/wait" => {
                    seen.notified().await;
                    ask.reply(&Reply::ok("no picture")).await;
                }
                _ => ask.reply(&Reply { status: 404, ..Reply::ok("") }).await,
            }
        }
    };
    let nobody = |_: Stream| async { panic!("HTTP/2 was offered") };
    let lab = Plan::api_key().start(Origin::either(Offer::Both, nobody, http2)).await;
    let proxy = forwarder(&lab).await;
    trust_the_ca(&lab).await;
    let output = run(chromium(&lab, proxy)).await;
    let said = said(&output);
    assert!(said.contains("event0 event1 event2"), "{said}");
    lab.canary.assert_absent("what Chromium said", said.as_bytes());
    for request in lab.origin.received() {
        assert!(request.head.start.ends_with("HTTP/2"), "{request:?}");
        assert_injected(&request, &lab.canary.text);
    }
    lab.finish().await;
}
