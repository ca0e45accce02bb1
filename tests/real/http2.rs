//! Clients that use HTTP/2 if it is offered, as their documentation shows; the gateway uses the same protocol to
//! the upstream.

use std::process::{Command, Output};

use crate::stage::{assert_injected, installed, keyed, node20, run, said};
use test_support::http2::{Offer, Reply};
use test_support::*;

const HTTPX: &str = "
import os, httpx
client = httpx.Client(http2=True, timeout=20)
for number in range(3):
    answer = client.post('https://api.acme.test/a', headers={'X-Api-Key': os.environ['KEY']}, content=b'.' * 200_000)
    answer.raise_for_status()
print(answer.http_version, answer.text)
";

/// `http2` knows no proxies: the tunnel is made by hand, as its users do.
const HTTP2: &str = "
const http = require('http'), http2 = require('http2'), tls = require('tls');
const proxy = new URL(process.env.HTTPS_PROXY);
const pair = Buffer.from(`${proxy.username}:${proxy.password}`).toString('base64');
http.request({
  host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: 'api.acme.test:443',
  headers: { 'Proxy-Authorization': `Basic ${pair}` },
}).on('connect', (_, socket) => {
  const secure = tls.connect({ socket, servername: 'api.acme.test', ALPNProtocols: ['h2'] });
  const session = http2.connect('https://api.acme.test', { createConnection: () => secure });
  const ask = (number) => new Promise((resolve, reject) => {
    const stream = session.request({ ':path': `/${number}`, 'x-api-key': process.env.KEY });
    let text = '', status;
    stream.on('response', (head) => { status = head[':status']; });
    stream.on('data', (piece) => { text += piece; });
    stream.on('end', () => resolve(`${status} ${text}`));
    stream.on('error', reject);
    stream.end();
  });
  Promise.all(Array.from({ length: 50 }, (_, number) => ask(number))).then((answers) => {
    console.log(secure.alpnProtocol, answers[0]);
    const fine = answers.every((answer) => answer.startsWith('200 fine'));
    session.close();
    process.exitCode = fine ? 0 : 1;
  });
}).end();
";

const UNDICI: &str = "
const { EnvHttpProxyAgent, fetch } = require(process.env.PACKAGES + '/undici');
const dispatcher = new EnvHttpProxyAgent({ allowH2: true, requestTls: { allowH2: true } });
fetch('https://api.acme.test/a', {
  method: 'POST', body: 'x'.repeat(200000), headers: { 'X-Api-Key': process.env.KEY }, dispatcher,
}).then(async (answer) => {
  console.log(answer.status, await answer.text());
  process.exit(answer.ok ? 0 : 1);
});
";

const GO: &str = r#"
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
)

func main() {
	var group sync.WaitGroup
	for number := 0; number < 20; number++ {
		group.Add(1)
		go func() {
			defer group.Done()
			body := strings.NewReader(strings.Repeat(".", 200000))
			request, _ := http.NewRequest("POST", "https://api.acme.test/a", body)
			request.Header.Set("X-Api-Key", os.Getenv("KEY"))
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			text, _ := io.ReadAll(answer.Body)
			fmt.Println(answer.Proto, answer.StatusCode, string(text))
			if answer.StatusCode != 200 || answer.ProtoMajor != 2 {
				os.Exit(1)
			}
		}()
	}
	group.Wait()
}
"#;

/// An origin of both protocols that answers `fine` to the live credential alone.
async fn lab() -> Lab {
    let plan = Plan::api_key();
    let live = plan.canary().text.clone();
    let origin = Origin::speaking(Offer::Both, move |request| {
        match (request.head.all("x-api-key")[..] == [&*live], request.head.target()) {
            (true, _) => Reply::ok("fine"),
            (false, _) => Reply { status: 401, ..Reply::ok("no") },
        }
    });
    plan.start(origin).await
}

/// Every request came over HTTP/2 with the credential; what the program said has `shown`.
async fn assert_served(lab: Lab, output: Output, shown: &str) {
    let said = said(&output);
    assert!(output.status.success() && said.contains(shown), "{}: {said}", output.status);
    assert!(said.contains("fine"), "{said}");
    lab.canary.assert_absent("what the program said", said.as_bytes());
    let received = lab.origin.received();
    assert!(!received.is_empty());
    for request in received {
        assert!(request.head.start.ends_with("HTTP/2"), "{request:?}");
        assert_injected(&request, &lab.canary.text);
    }
    lab.finish().await;
}

fn node(lab: &Lab, text: &str) -> Command {
    let mut node = keyed(lab, node20());
    node.env("PACKAGES", installed("real-node/node_modules")).args(["-e", text]);
    node
}

#[tokio::test]
async fn curl_is_served() {
    let lab = lab().await;
    let mut curl = keyed(&lab, "curl");
    let key = format!("X-Api-Key: {}", lab.placeholder("api_key"));
    curl.args(["--silent", "--show-error", "--fail", "--http2", "-H", &key]);
    curl.args(["-w", " over HTTP/%{http_version}", "https://api.acme.test/a"]);
    let output = run(curl).await;
    assert_served(lab, output, "over HTTP/2").await;
}

#[tokio::test]
async fn httpx_is_served() {
    let lab = lab().await;
    let mut python = keyed(&lab, installed("real-venv/bin/python"));
    python.args(["-c", HTTPX]);
    let output = run(python).await;
    assert_served(lab, output, "HTTP/2 fine").await;
}

#[tokio::test]
async fn node_is_served() {
    let lab = lab().await;
    let output = run(node(&lab, HTTP2)).await;
    assert_served(lab, output, "h2 200 fine").await;
}

#[tokio::test]
async fn undici_is_served() {
    let lab = lab().await;
    let output = run(node(&lab, UNDICI)).await;
    assert_served(lab, output, "200 fine").await;
}

#[tokio::test]
async fn go_is_served() {
    let lab = lab().await;
    std::fs::write(lab.gateway.folder().join("probe.go"), GO).expect("a file");
    let mut go = keyed(&lab, "go");
    go.env("GOCACHE", installed("real-go")).env("GO111MODULE", "off").env("GOTOOLCHAIN", "local");
    go.args(["run", "probe.go"]);
    let output = run(go).await;
    assert_served(lab, output, "HTTP/2.0 200 fine").await;
}

#[tokio::test]
async fn java_is_served() {
    let lab = lab().await;
    let source = lab.gateway.folder().join("Probe.java");
    std::fs::write(&source, include_str!("Probe.java")).expect("a file");
    let mut java = keyed(&lab, "java");
    java.arg("-Djdk.http.auth.tunneling.disabledSchemes=").arg(source);
    java.arg("https://api.acme.test/a");
    let output = run(java).await;
    assert_served(lab, output, "fine").await;
}
