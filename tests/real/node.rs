//! Node: fetch with undici's agent, https with the default agent, and a hand-written CONNECT.

use std::process::Command;

use crate::stage::*;
use test_support::*;

/// `fetch` with the proxy agent of undici, which Node's own fetch is made of.
const FETCH: &str = "
const { EnvHttpProxyAgent, fetch } = require(process.env.PACKAGES + '/undici');
fetch('https://api.acme.test/a', {
  headers: { 'X-Api-Key': process.env.KEY },
  dispatcher: new EnvHttpProxyAgent(),
}).then(async (answer) => {
  console.log(answer.status, await answer.text());
  process.exit(answer.ok ? 0 : 1);
});
";

/// `https` with the agent that most SDKs bring.
const HTTPS: &str = "
const https = require('https');
const { HttpsProxyAgent } = require(process.env.PACKAGES + '/https-proxy-agent');
https.get('https://api.acme.test/a', {
  headers: { 'X-Api-Key': process.env.KEY },
  agent: new HttpsProxyAgent(process.env.HTTPS_PROXY),
}, (answer) => {
  answer.on('data', (piece) => process.stdout.write(piece));
  answer.on('end', () => process.exit(answer.statusCode === 200 ? 0 : 1));
});
";

/// What axios before 1.16 does: no CONNECT, the whole URI in clear to the proxy.
const ABSOLUTE: &str = "
const http = require('http');
const proxy = new URL(process.env.HTTPS_PROXY);
const pair = Buffer.from(`${proxy.username}:${proxy.password}`).toString('base64');
http.get({
  host: proxy.hostname, port: proxy.port, path: 'https://api.acme.test/a',
  headers: { Host: 'api.acme.test', 'X-Api-Key': process.env.KEY,
    'Proxy-Authorization': `Basic ${pair}` },
}, (answer) => {
  answer.on('data', (piece) => process.stdout.write(piece));
  answer.on('end', () => process.exit(answer.statusCode === 200 ? 0 : 1));
});
";

fn node(lab: &Lab, text: &str) -> Command {
    let mut node = keyed(lab, node20());
    node.env("PACKAGES", installed("real-node/node_modules")).args(["-e", text]);
    node.env("NODE_DEBUG", "http,https,tls,net,undici,fetch");
    node
}

async fn is_served(text: &str) {
    let lab = lab().await;
    let output = run(node(&lab, text)).await;
    assert_served(lab, output).await;
}

#[tokio::test]
async fn fetch_is_served() {
    is_served(FETCH).await;
}

#[tokio::test]
async fn https_is_served() {
    is_served(HTTPS).await;
}

#[tokio::test]
async fn a_whole_uri_to_the_proxy_is_served() {
    is_served(ABSOLUTE).await;
}
