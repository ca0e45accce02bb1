//! Programs that send the key in the body: curl, requests and Node's fetch; with a length, in chunks, as forms, beside a
//! file, and after `100 Continue`.

use crate::stage::*;
use test_support::http2::{Offer, Reply};
use test_support::*;

const URL: &str = "https://api.acme.test/messages";

/// Says `fine` to JSON and forms with the live key and the whole message.
async fn lab() -> Lab {
    let plan = Plan::new(
        "{ id: key, kind: api_key, placement: { body: auth.key } }",
        "{ api_key: { env: CANARY } }",
    );
    let live = plan.canary().text.clone();
    let origin = Origin::speaking(Offer::Both, move |request: &Message| {
        let kind = request.head.one("content-type").unwrap_or_default();
        // `URLSearchParams` adds its charset.
        let (key, message) = match kind.split(';').next() {
            Some("application/x-www-form-urlencoded" | "multipart/form-data") => {
                let pairs = match kind.split_once("boundary=") {
                    Some((_, boundary)) => parts(boundary, &request.text()),
                    None => form(&request.text()),
                };
                let one = |name: &str| {
                    let mut found = pairs.iter().filter(|(other, _)| other == name);
                    found.next().map(|(_, value)| value.clone()).filter(|_| found.next().is_none())
                };
                (one("auth.key"), one("message"))
            }
            _ => {
                let body = request.json();
                let text = |at: &str| Some(body.pointer(at)?.as_str()?.to_owned());
                (text("/auth/key"), text("/message"))
            }
        };
        let whole = message.is_some_and(|it| it.bytes().all(|b| b == b'x') && it.len() == 2 << 20);
        match key.as_ref() == Some(&live) && whole {
            true => Reply::ok("fine"),
            false => Reply { status: 401, ..Reply::ok("no") },
        }
    });
    plan.start(origin).await
}

/// Names and values of `multipart/form-data`.
fn parts(boundary: &str, body: &str) -> Vec<(String, String)> {
    let named = |part: &str| {
        let (head, value) = part.split_once("\r\n\r\n")?;
        let (_, name) = head.split_once(" name=\"")?;
        let (name, _) = name.split_once('"')?;
        Some((name.to_owned(), value.strip_suffix("\r\n")?.to_owned()))
    };
    body.split(&format!("--{boundary}")).filter_map(named).collect()
}

fn form(body: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| {
        let text = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
        text.into_owned()
    };
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

/// The program got its answer, and nothing stood for the key where that goes.
async fn assert_written(lab: Lab, output: std::process::Output) {
    let said = said(&output);
    let answered = String::from_utf8_lossy(&output.stdout).contains("fine");
    assert!(output.status.success() && answered, "{}: {said}", output.status);
    lab.canary.assert_absent("what the program said", said.as_bytes());
    let body = lab.origin.only().text();
    assert!(!body.contains("kwph"), "a placeholder arrived");
    lab.finish().await;
}

#[tokio::test]
async fn curl_sends_json_that_waits_for_100_and_is_served() {
    let lab = lab().await;
    let body = lab.gateway.folder().join("body.json");
    let key = lab.placeholder("api_key");
    let text =
        format!("{{\"auth\": {{\"key\": \"{key}\"}}, \"message\": \"{}\"}}", "x".repeat(2 << 20));
    std::fs::write(&body, text).expect("a file");
    let mut curl = program(&lab, "curl");
    // For more than a mebibyte curl waits by itself, over HTTP/1.1.
    curl.args(["--verbose", "--http1.1", "--max-time", "20", "--header"]);
    curl.args(["Content-Type: application/json", "--data-binary"]);
    curl.arg(format!("@{}", body.display())).arg(URL);
    let output = run(curl).await;
    assert!(said(&output).contains("100 Continue"), "{}", said(&output));
    assert_written(lab, output).await;
}

#[tokio::test]
async fn a_form_of_curl_over_http2_is_served() {
    let lab = lab().await;
    let body = lab.gateway.folder().join("message");
    std::fs::write(&body, "x".repeat(2 << 20)).expect("a file");
    let mut curl = program(&lab, "curl");
    let key = format!("auth.key={}", lab.placeholder("api_key"));
    curl.args(["--verbose", "--http2", "--max-time", "20", "--data-urlencode", &key]);
    curl.args(["--data-urlencode", &format!("message@{}", body.display()), URL]);
    let output = run(curl).await;
    assert_written(lab, output).await;
}

/// The body as one, or as a generator, which goes out in chunks.
const PYTHON: &str = "
import json, os, sys, requests
body = json.dumps({'message': 'x' * (2 << 20), 'auth': {'key': os.environ['KEY']}}).encode()
pieces = (body[at:at + 65536] for at in range(0, len(body), 65536))
answer = requests.post('https://api.acme.test/messages', data=pieces if sys.argv[1] == 'chunks' else body,
                       headers={'Content-Type': 'application/json'})
print(answer.status_code, answer.text)
answer.raise_for_status()
";

#[tokio::test]
async fn requests_of_python_is_served_with_a_length_and_in_chunks() {
    for how in ["whole", "chunks"] {
        let lab = lab().await;
        let mut python = keyed(&lab, installed("real-venv/bin/python"));
        python.args(["-c", PYTHON, how]);
        let output = run(python).await;
        assert_written(lab, output).await;
    }
}

/// A form with a file, of which the key is another part.
const PYTHON_FILE: &str = "
import io, os, requests
answer = requests.post('https://api.acme.test/messages', data={'auth.key': os.environ['KEY']},
                       files={'message': ('a.txt', io.BytesIO(b'x' * (2 << 20)), 'text/plain')})
print(answer.status_code, answer.text)
answer.raise_for_status()
";

#[tokio::test]
async fn a_file_beside_the_key_is_served_from_python_and_from_curl() {
    let python = lab().await;
    let mut command = keyed(&python, installed("real-venv/bin/python"));
    command.args(["-c", PYTHON_FILE]);
    let output = run(command).await;
    assert_written(python, output).await;

    let curl = lab().await;
    let file = curl.gateway.folder().join("message");
    std::fs::write(&file, "x".repeat(2 << 20)).expect("a file");
    let mut command = program(&curl, "curl");
    let key = format!("auth.key={}", curl.placeholder("api_key"));
    command.args(["--verbose", "--max-time", "20", "--form", &key, "--form"]);
    command.arg(format!("message=@{}", file.display())).arg(URL);
    let output = run(command).await;
    assert_written(curl, output).await;
}

/// Form and JSON by the names that people know.
const NODE: &str = "
const { EnvHttpProxyAgent, fetch, FormData } = require(process.env.PACKAGES + '/undici');
const message = 'x'.repeat(2 << 20);
const form = process.argv[1] === 'form';
const json = () => JSON.stringify({ message, auth: { key: process.env.KEY } });
const stream = () => new Blob([json()]).stream();
const file = () => {
  const parts = new FormData();
  parts.append('auth.key', process.env.KEY);
  parts.append('message', new Blob([message]), 'a.txt');
  return parts;
};
fetch('https://api.acme.test/messages', {
  method: 'POST',
  body: form ? new URLSearchParams({ message, 'auth.key': process.env.KEY })
    : process.argv[1] === 'file' ? file() : process.argv[1] === 'stream' ? stream() : json(),
  duplex: 'half',
  headers: form || process.argv[1] === 'file' ? {} : { 'Content-Type': 'application/json' },
  dispatcher: new EnvHttpProxyAgent(),
}).then(async (answer) => {
  console.log(answer.status, await answer.text());
  process.exit(answer.ok ? 0 : 1);
});
";

#[tokio::test]
async fn fetch_of_node_is_served_as_json_as_a_stream_as_a_form_and_with_a_file() {
    for how in ["json", "stream", "form", "file"] {
        let lab = lab().await;
        let mut node = keyed(&lab, installed("real-node/node_modules/node24/bin/node"));
        node.env("PACKAGES", installed("real-node/node_modules")).args(["-e", NODE, how]);
        let output = run(node).await;
        assert_written(lab, output).await;
    }
}

/// The size of a file that is longer than what is held of a form.
const FILE_BYTES: usize = 16 << 20;

/// Says `fine` to forms with the live key and the file, in any order.
async fn lab_for_files() -> Lab {
    let plan = Plan::new(
        "{ id: key, kind: api_key, placement: { body: auth.key } }",
        "{ api_key: { env: CANARY } }",
    );
    let live = plan.canary().text.clone();
    let origin = Origin::speaking(Offer::Both, move |request: &Message| {
        let kind = request.head.one("content-type").unwrap_or_default();
        let boundary = kind.split_once("boundary=").expect("a form").1;
        let mut fields = long_parts(boundary, &request.body);
        fields.sort();
        match fields == [("auth.key".to_owned(), live.clone()), ("file".into(), "whole".into())] {
            true => Reply::ok("fine"),
            false => Reply { status: 401, ..Reply::ok("no") },
        }
    });
    plan.start(origin).await
}

/// The file that programs send.
fn file() -> Vec<u8> {
    let piece: Vec<u8> = (0..=255).collect();
    piece.repeat(FILE_BYTES / piece.len())
}

/// Names and values of a form; the value of the right file is `whole`.
fn long_parts(boundary: &str, body: &[u8]) -> Vec<(String, String)> {
    let (mut parts, mut rest) = (Vec::new(), body);
    while let Some(part) = rest.strip_prefix(format!("--{boundary}\r\n").as_bytes()) {
        let (head, value) = divided(part, b"\r\n\r\n");
        let (_, name) = head.split_once(" name=\"").expect("a name");
        let (name, _) = name.split_once('"').expect("a name");
        let (value, next) = match value.split_at_checked(FILE_BYTES) {
            Some((value, next)) if value == file() => {
                ("whole".to_owned(), next.strip_prefix(b"\r\n").expect("its end"))
            }
            _ => divided(value, b"\r\n"),
        };
        parts.push((name.to_owned(), value));
        rest = next;
    }
    assert_eq!(rest, format!("--{boundary}--\r\n").as_bytes());
    parts
}

/// What is before and after `end`.
fn divided<'a>(text: &'a [u8], end: &[u8]) -> (String, &'a [u8]) {
    let at = text.windows(end.len()).position(|it| it == end).expect("an end");
    (String::from_utf8_lossy(&text[..at]).into_owned(), &text[at + end.len()..])
}

/// The program got its answer, and the upstream the length that it could know.
async fn assert_streamed(lab: Lab, output: std::process::Output, has_length: bool) {
    let said = said(&output);
    let answered = String::from_utf8_lossy(&output.stdout).contains("fine");
    assert!(output.status.success() && answered, "{}: {said}", output.status);
    lab.canary.assert_absent("what the program said", said.as_bytes());
    let received = lab.origin.only();
    let lengths = has_length.then(|| received.body.len().to_string());
    assert_eq!(received.head.one("content-length"), lengths.as_deref());
    assert!(received.whole);
    lab.finish().await;
}

/// The field before the file and after it; a file whose length is not known, which goes out in chunks.
const PYTHON_LONG: &str = "
import io, os, sys, httpx, requests
url, file = 'https://api.acme.test/messages', open(sys.argv[2], 'rb')
class Stream(io.RawIOBase):
    def readable(self): return True
    def read(self, n=-1): return file.read(n)
key, named = os.environ['KEY'], ('a.bin', file, 'application/octet-stream')
if sys.argv[1] == 'requests':
    answer = requests.post(url, data={'auth.key': key}, files={'file': named})
elif sys.argv[1] == 'file-first':
    answer = requests.post(url, files=[('file', named), ('auth.key', (None, key))])
elif sys.argv[1] == 'httpx':
    answer = httpx.post(url, data={'auth.key': key}, files={'file': named}, timeout=60)
else:
    named = ('a.bin', Stream(), 'application/octet-stream')
    answer = httpx.post(url, data={'auth.key': key}, files={'file': named}, timeout=60)
print(answer.status_code, answer.text)
answer.raise_for_status()
";

#[tokio::test]
async fn a_long_file_beside_the_key_streams_from_python() {
    for (how, has_length) in
        [("requests", true), ("file-first", false), ("httpx", true), ("chunks", false)]
    {
        let lab = lab_for_files().await;
        let path = lab.gateway.folder().join("a.bin");
        std::fs::write(&path, file()).expect("a file");
        let mut python = keyed(&lab, installed("real-venv/bin/python"));
        python.args(["-c", PYTHON_LONG, how]).arg(path);
        let output = run(python).await;
        assert_streamed(lab, output, has_length).await;
    }
}

#[tokio::test]
async fn a_long_file_beside_the_key_streams_from_curl_over_both_protocols() {
    for (version, chunks) in [("--http1.1", false), ("--http1.1", true), ("--http2", false)] {
        let lab = lab_for_files().await;
        let path = lab.gateway.folder().join("a.bin");
        std::fs::write(&path, file()).expect("a file");
        let mut curl = program(&lab, "curl");
        let key = format!("auth.key={}", lab.placeholder("api_key"));
        curl.args([version, "--verbose", "--max-time", "60", "--form", &key, "--form"]);
        curl.arg(format!("file=@{}", path.display())).arg(URL);
        if chunks {
            curl.args(["--header", "Transfer-Encoding: chunked"]);
        }
        let output = run(curl).await;
        assert_streamed(lab, output, !chunks).await;
    }
}

#[tokio::test]
async fn a_form_without_the_key_and_with_a_long_file_is_served() {
    let lab = lab_for_files().await;
    let path = lab.gateway.folder().join("a.bin");
    std::fs::write(&path, file()).expect("a file");
    let mut curl = program(&lab, "curl");
    curl.args(["--verbose", "--max-time", "60", "--form"]);
    curl.arg(format!("file=@{}", path.display())).arg(URL);
    let output = run(curl).await;
    assert_streamed(lab, output, false).await;
}
