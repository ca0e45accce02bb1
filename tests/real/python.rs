//! Python's HTTP libraries, as their documentation uses them.

use std::process::Command;

use crate::stage::*;
use test_support::*;

/// Whatever the libraries can tell about what they send and receive.
const VERBOSE: &str = "
import http.client, logging
http.client.HTTPConnection.debuglevel = 1
logging.basicConfig(level=1)
";

const URLLIB: &str = "
import os, urllib.request
request = urllib.request.Request('https://api.acme.test/a', headers={'X-Api-Key': os.environ['KEY']})
print(urllib.request.urlopen(request, timeout=20).read().decode())
";

const STRICT: &str = "
import os, ssl, urllib.request
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
request = urllib.request.Request('https://api.acme.test/a', headers={'X-Api-Key': os.environ['KEY']})
print(urllib.request.urlopen(request, timeout=20, context=context).read().decode())
";

const REQUESTS: &str = "
import os, requests
answer = requests.get('https://api.acme.test/a', headers={'X-Api-Key': os.environ['KEY']}, timeout=20)
answer.raise_for_status()
print(answer.text)
";

const HTTPX: &str = "
import os, httpx
answer = httpx.get('https://api.acme.test/a', headers={'X-Api-Key': os.environ['KEY']}, timeout=20)
answer.raise_for_status()
print(answer.text)
";

const SESSION: &str = "
import os, requests
session = requests.Session()
session.headers['X-Api-Key'] = os.environ['KEY']
def parts():
    for number in range(5):
        yield b'part %d ' % number
for _ in range(3):
    answer = session.post('https://api.acme.test/a', data=parts(), timeout=20)
    answer.raise_for_status()
print(answer.text)
";

const DENIED: &str = "
import requests
try:
    requests.get('https://other.acme.test/a', timeout=20)
except requests.exceptions.ProxyError as error:
    print('refused:', error)
";

fn python(lab: &Lab, text: &str) -> Command {
    let mut python = keyed(lab, installed("real-venv/bin/python"));
    python.args(["-c", &format!("{VERBOSE}{text}")]);
    python
}

async fn is_served(text: &str) {
    let lab = lab().await;
    let output = run(python(&lab, text)).await;
    assert_served(lab, output).await;
}

#[tokio::test]
async fn urllib_is_served() {
    is_served(URLLIB).await;
}

#[tokio::test]
async fn the_strict_verifier_accepts_the_leaf() {
    is_served(STRICT).await;
}

/// Strict, and with the roots alone as anchors.
const STRICT_ROOTS: &str = "
import os, ssl, urllib.request
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT
context.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
request = urllib.request.Request('https://api.acme.test/a', headers={'X-Api-Key': os.environ['KEY']})
print(urllib.request.urlopen(request, timeout=20, context=context).read().decode())
";

#[tokio::test]
async fn after_a_rotation_the_strict_verifier_accepts_the_chain_by_either_root() {
    for trusts in [Trusts::Former, Trusts::Current] {
        let lab = rotated(trusts).await;
        let output = run(python(&lab, STRICT_ROOTS)).await;
        assert_served(lab, output).await;
    }
}

#[tokio::test]
async fn requests_is_served() {
    is_served(REQUESTS).await;
}

#[tokio::test]
async fn httpx_is_served() {
    is_served(HTTPX).await;
}

#[tokio::test]
async fn a_session_with_chunked_uploads_is_served_on_one_stream() {
    let lab = lab().await;
    let output = succeeded(python(&lab, SESSION)).await;
    let received = lab.origin.received();
    assert_eq!(received.len(), 3);
    for request in received {
        assert_eq!(request.text(), "part 0 part 1 part 2 part 3 part 4 ");
        assert_eq!(request.head.all("x-api-key"), [&*lab.canary.text]);
    }
    assert_eq!(lab.origin.streams(), 1);
    lab.canary.assert_absent("what Python said", said(&output).as_bytes());
    lab.finish().await;
}

#[tokio::test]
async fn requests_shows_the_reason_of_a_denial() {
    let lab = lab().await;
    let output = run(python(&lab, DENIED)).await;
    let said = said(&output);
    assert!(said.contains("default_deny other.acme.test"), "{said}");
    lab.finish_unreached().await;
}
