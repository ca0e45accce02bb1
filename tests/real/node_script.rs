//! What the script that `keyward run` loads into Node leaves as it is: timeouts, hosts of `NO_PROXY`, and protocols that
//! are offered as bytes.

use std::process::Command;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::stage::*;
use test_support::*;

/// The first byte of a TLS handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// A request whose agent has the only timeout.
const AGENT: &str = "
const https = require('https');
const agent = new https.Agent({ timeout: 300 });
const request = https.get('https://api.acme.test/a', { agent, headers: { 'X-Api-Key': process.env.KEY } });
request.on('timeout', () => request.destroy(new Error('timeout')));
request.on('error', ({ code, message }) => console.log(code || message));
";

const WS: &str = "
const WebSocket = require(process.env.PACKAGES + '/ws');
const socket = new WebSocket('wss://api.acme.test/', { handshakeTimeout: 300 });
socket.on('error', ({ message }) => console.log(message));
";

/// To a host of `NO_PROXY`.
const DIRECT: &str = "
const https = require('https');
https.get(process.env.DIRECT, { agent: new https.Agent() }).on('error', () => {});
";

const BYTES: &str = "
const offered = new Uint8Array([8, ...Buffer.from('http/1.1')]);
const host = 'api.acme.test';
const socket = require('tls').connect({ host, port: 443, ALPNProtocols: offered }, () => {
  const fields = ['Host: ' + host, 'X-Api-Key: ' + process.env.KEY, 'Connection: close'];
  socket.write(['GET /a HTTP/1.1', ...fields, '', ''].join('\\r\\n'));
});
socket.pipe(process.stdout);
";

/// As faye-websocket connects.
const NOTHING_OFFERED: &str = "
const host = 'api.acme.test';
const socket = require('tls').connect({ host, port: 443 }, () => {
  const fields = ['Host: ' + host, 'X-Api-Key: ' + process.env.KEY, 'Connection: close'];
  socket.write(['GET /a HTTP/1.1', ...fields, '', ''].join('\\r\\n'));
});
socket.pipe(process.stdout);
";

fn node(mut command: Command, text: &str) -> Command {
    command.args(["-e", text]).env("NODE_OPTIONS", format!("--require={NODE_SCRIPT}"));
    command.env("PACKAGES", installed("real-node/node_modules"));
    command
}

/// What a program prints whose proxy accepts streams and never answers.
async fn with_a_silent_proxy(text: &str) -> String {
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let mut command = Command::new(node20());
    let at = proxy.local_addr().expect("its address");
    command.env("HTTPS_PROXY", format!("http://ci:token@{at}")).env_remove("https_proxy");
    for name in ["NO_PROXY", "no_proxy", "NODE_USE_ENV_PROXY"] {
        command.env_remove(name);
    }
    command.env("KEY", "none");
    String::from_utf8_lossy(&run(node(command, text)).await.stdout).into_owned()
}

/// Node connects to the host of `direct`, and not to the proxy.
async fn is_reached_directly(direct: &str) {
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let host = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let at = host.local_addr().expect("its address");
    let mut command = Command::new(node20());
    let proxy_at = proxy.local_addr().expect("its address");
    command.env("HTTPS_PROXY", format!("http://ci:token@{proxy_at}")).env_remove("https_proxy");
    command.env("NO_PROXY", direct.replace("PORT", &at.port().to_string())).env_remove("no_proxy");
    command.env("DIRECT", format!("https://{at}/")).env_remove("NODE_USE_ENV_PROXY");
    let mut command = tokio::process::Command::from(node(command, DIRECT));
    let _child = command.kill_on_drop(true).spawn().expect("Node");
    let (mut stream, _) = tokio::select! {
        accepted = patiently("a stream", host.accept()) => accepted.expect("a stream"),
        _ = proxy.accept() => panic!("{direct}: it asks the proxy"),
    };
    let first = patiently("a handshake", stream.read_u8()).await.expect("a byte");
    assert_eq!(first, HANDSHAKE, "{direct}");
}

#[tokio::test]
async fn the_timeout_of_an_agent_ends_a_request_that_is_not_answered() {
    let origin =
        Origin::scripted(
            |mut stream: Stream| async move { while stream.request().await.is_some() {} },
        );
    let lab = Plan::api_key().start(origin).await;
    let output = run(node(keyed(&lab, node20()), AGENT)).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "timeout\n", "{}", said(&output));
    assert_injected(&lab.origin.only(), &lab.canary.text);
    lab.finish().await;
}

#[tokio::test]
async fn the_timeout_of_an_agent_ends_the_wait_for_the_proxy() {
    assert_eq!(with_a_silent_proxy(AGENT).await, "ERR_PROXY_TUNNEL\n");
}

#[tokio::test]
async fn the_timeout_of_a_websockets_handshake_ends_the_wait_for_the_proxy() {
    assert_eq!(with_a_silent_proxy(WS).await, "Opening handshake has timed out\n");
}

#[tokio::test]
async fn hosts_of_a_network_in_no_proxy_are_reached_directly() {
    is_reached_directly("192.0.2.0/24,127.0.0.0/8").await;
    is_reached_directly("127.0.0.0/99,127.0.0.1/32").await;
}

#[tokio::test]
async fn every_host_is_reached_directly_if_no_proxy_says_so() {
    is_reached_directly("*").await;
}

#[tokio::test]
async fn an_address_with_its_port_in_no_proxy_is_reached_directly() {
    is_reached_directly("127.0.0.1:PORT").await;
}

#[tokio::test]
async fn a_connection_to_the_port_of_https_that_offers_no_protocol_is_served() {
    let lab = lab().await;
    let output = run(node(keyed(&lab, node20()), NOTHING_OFFERED)).await;
    assert_served(lab, output).await;
}

#[tokio::test]
async fn a_connection_that_offers_http_as_bytes_is_served() {
    let lab = lab().await;
    let output = run(node(keyed(&lab, node20()), BYTES)).await;
    assert_served(lab, output).await;
}
