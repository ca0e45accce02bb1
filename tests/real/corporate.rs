//! tinyproxy as the corporate proxy, with a login. It resolves no name here: it forwards to a scripted proxy that
//! knows the address of the origin.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use test_support::canary::Canary;
use test_support::corporate::{FORWARDED, opening};
use test_support::process::reserved_address;
use test_support::*;

/// A host that no resolver here knows.
const BEYOND: &str = "api.beyond.test";

/// A running tinyproxy; dropped, it is killed.
struct Tinyproxy {
    child: Child,
    at: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Tinyproxy {
    async fn before(next: SocketAddr, password: &str) -> Self {
        let (folder, at) = (tempfile::tempdir().expect("a directory"), reserved_address());
        let file = folder.path().join("tinyproxy.conf");
        let text = format!(
            "Port {}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nBasicAuth svc {password}\n\
             Upstream http {next}\nLogLevel Connect\n",
            at.port()
        );
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new("tinyproxy");
        command.arg("-d").arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("`tests/run` installs tinyproxy");
        until("tinyproxy to listen", async || TcpStream::connect(at).await.is_ok()).await;
        Self { child, at, _folder: folder }
    }
}

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }
}

fn plan(at: SocketAddr, password: &Canary) -> Plan {
    Plan::api_key()
        .hosts(BEYOND)
        .top("default: pass")
        .secret("CORP", password)
        .upstream(&format!("proxy: {{ url: 'http://{at}', user: svc, password: {{ env: CORP }} }}"))
}

fn origin() -> Origin {
    Origin::answering_as(&[BEYOND], |_| ok("fine"))
}

async fn ask(lab: &Lab) -> Message {
    lab.ask_as("ci", BEYOND, "GET /a").await
}

#[tokio::test]
async fn a_tinyproxy_that_rejects_the_login_is_named_and_opens_no_tunnel() {
    let origin = origin();
    let next = opening(origin.addr);
    let (right, wrong) = (Canary::new("right"), Canary::new("wrong"));
    let tinyproxy = Tinyproxy::before(next.addr, &right.text).await;
    let lab = plan(tinyproxy.at, &wrong).start(origin).await;
    let answer = ask(&lab).await;
    assert_eq!(answer.head.one("keyward-error"), Some("upstream_unreachable"), "{answer:?}");
    let text = answer.text();
    assert!(text.contains(&tinyproxy.at.to_string()) && text.contains("does not accept"), "{text}");
    assert_eq!(next.streams(), 0);
    lab.finish().await;
}

#[tokio::test]
async fn https_and_cleartext_requests_go_through_tinyproxy() {
    let origin = origin();
    let next = opening(origin.addr);
    let password = Canary::new("corp");
    let tinyproxy = Tinyproxy::before(next.addr, &password.text).await;
    let lab = plan(tinyproxy.at, &password).start(origin).await;
    let answer = ask(&lab).await;
    assert_eq!(answer.text(), "fine", "{answer:?}");
    assert_eq!(lab.origin.only().head.one("x-api-key"), Some(&*lab.canary.text));
    let mut wire = lab.client().await;
    let authorization = lab.authorization("ci");
    wire.send(format!(
        "GET http://web.beyond.test/b HTTP/1.1\r\nHost: web.beyond.test\r\n{authorization}\r\n"
    ))
    .await;
    let answer = wire.answer("GET").await;
    assert_eq!(answer.text(), FORWARDED, "{answer:?}");
    let asked: Vec<String> = next.received().iter().map(|it| it.head.start.clone()).collect();
    assert!(asked[0].starts_with(&format!("CONNECT {BEYOND}:443 ")), "{asked:?}");
    assert!(asked[1].contains("web.beyond.test"), "{asked:?}");
    lab.canary.assert_absent("what the proxies saw", &next.bytes());
    lab.finish().await;
}
