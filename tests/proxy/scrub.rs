//! An origin that repeats the credential does not tell it to the agent: in no field, body, trailer,
//! encoding or coding, however it is cut into pieces. What holds no secret passes as it came. The lab
//! looks at the end for the secret in all that a client saw.

mod codings;
mod flow;
mod parts;

use std::fmt::Write as _;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use test_support::canary::Canary;
use test_support::*;

/// What an origin makes of the credential it was sent.
type Form = fn(&str) -> String;

/// What servers make of a value that they repeat.
const FORMS: &[(&str, Form)] = &[
    ("raw", |secret| secret.to_owned()),
    ("in a URL", |secret| format!("{secret}&next={}", percent(secret, true))),
    ("percent-encoded", |secret| percent(secret, true)),
    ("percent-encoded, lower case", |secret| percent(secret, false)),
    ("base64", |secret| BASE64_STANDARD.encode(secret)),
    ("base64, one off", |secret| BASE64_STANDARD.encode(format!(":{secret}:"))),
    ("base64, two off", |secret| BASE64_STANDARD.encode(format!("u:{secret}"))),
    ("base64url", |secret| BASE64_URL_SAFE_NO_PAD.encode(format!("Bearer {secret}"))),
    ("hex", |secret| secret.bytes().map(|byte| format!("{byte:02x}")).collect()),
    ("HEX", |secret| secret.bytes().map(|byte| format!("{byte:02X}")).collect()),
    ("JSON", |secret| secret.bytes().map(|byte| format!("\\u{byte:04x}")).collect()),
    ("JSON in capitals", |secret| secret.bytes().map(|byte| format!("\\u{byte:04X}")).collect()),
];

fn percent(text: &str, upper: bool) -> String {
    let digits = |byte| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
    text.bytes().map(digits).collect()
}

/// The credential that came with a request.
fn credential(request: &Message) -> String {
    request.head.one("x-api-key").expect("a credential").to_owned()
}

/// A `200` in chunks of `size` bytes.
fn chunked(body: &[u8], size: usize, fields: &str) -> Vec<u8> {
    let mut text =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{fields}\r\n").into_bytes();
    for chunk in body.chunks(size.max(1)) {
        text.extend(format!("{:x}\r\n", chunk.len()).bytes());
        text.extend(chunk);
        text.extend(b"\r\n");
    }
    text.extend(b"0\r\n\r\n");
    text
}

#[tokio::test]
async fn every_encoded_form_of_the_credential_in_a_body_is_masked() {
    for (name, form) in FORMS {
        let origin = Origin::answering(move |request: &Message| {
            ok(&format!("<{}>", form(&credential(request))))
        });
        let lab = Plan::api_key().start(origin).await;
        let answer = lab.ask("GET /echo").await;
        assert_eq!(answer.head.status(), 200, "{name}");
        let sent = form(&lab.canary.text).len() + 2;
        assert_eq!(answer.body.len(), sent, "{name}: masked at equal length");
        assert!(answer.whole && answer.text().contains("********"), "{name}: {}", answer.text());
        assert!(answer.text().starts_with('<') && answer.text().ends_with('>'), "{name}");
        let records = lab.finish().await;
        assert!(records[0]["scrubbed"].as_u64().is_some_and(|count| count > 0), "{records:?}");
        assert_eq!(records[0]["outcome"], "completed");
    }
}

/// What template engines make of a value with the characters of base64, as they wrote it when asked.
const QUOTED: &[(&str, &[(&str, &str)])] = &[
    ("Go's html/template, in text", &[("+", "&#43;")]),
    ("Go's html/template, in a bare attribute", &[("+", "&#43;"), ("=", "&#61;")]),
    ("Go's html/template, in a script", &[("+", "\\u002b"), ("/", "\\/")]),
    ("mustache.js", &[("/", "&#x2F;"), ("=", "&#x3D;")]),
    ("Handlebars", &[("=", "&#x3D;")]),
    ("a script with \\x, lower case", &[("+", "\\x2b"), ("/", "\\x2f"), ("=", "\\x3d")]),
    ("a script with \\x, capitals", &[("+", "\\x2B"), ("/", "\\x2F"), ("=", "\\x3D")]),
    ("Django's escapejs", &[("=", "\\u003D"), ("-", "\\u002D")]),
    (
        "numbers for all that is no letter",
        &[("+", "&#43;"), ("/", "&#47;"), ("=", "&#61;"), ("-", "&#45;"), ("_", "&#95;")],
    ),
];

/// Signing secrets and keys of AWS look so.
fn secret_in_base64() -> Canary {
    let canary = Canary::new("");
    Canary::of(format!("k-{}+/{}/_b==", &canary.text[..12], &canary.text[12..]))
}

async fn echoing(secret: &Canary, form: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Lab {
    let origin = Origin::answering(move |request: &Message| {
        let body = form(&credential(request));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len() + 2);
        [head.as_bytes(), b"<", &body, b">"].concat()
    });
    let auth = "{ id: key, kind: api_key, placement: { header: X-Api-Key } }";
    let plan = Plan::new(auth, "{ api_key: { env: SECOND } }").secret("SECOND", secret);
    plan.start(origin).await
}

#[tokio::test]
async fn a_credential_escaped_by_a_template_engine_is_masked() {
    for (name, pairs) in QUOTED {
        let secret = secret_in_base64();
        let quoted = move |secret: &str| {
            let each = |c: char| {
                let found = pairs.iter().find(|(from, _)| from.starts_with(c));
                found.map_or_else(|| c.to_string(), |(_, to)| (*to).to_owned())
            };
            secret.chars().map(each).collect::<String>().into_bytes()
        };
        let lab = echoing(&secret, quoted).await;
        let answer = lab.ask("GET /echo").await;
        let masked = "*".repeat(quoted(&secret.text).len());
        assert_eq!(answer.text(), format!("<{masked}>"), "{name}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_credential_in_utf_16_does_not_reach_the_agent() {
    for (name, bytes) in [("LE", u16::to_le_bytes as fn(u16) -> [u8; 2]), ("BE", u16::to_be_bytes)]
    {
        let secret = secret_in_base64();
        let wide = move |text: &str| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        let lab = echoing(&secret, move |text| wide(&format!("key={text};"))).await;
        let answer = lab.ask("GET /echo").await;
        let plain: Vec<u8> = answer.body.iter().copied().filter(|byte| *byte != 0).collect();
        let plain = String::from_utf8(plain).expect("text");
        assert!(!plain.contains(&secret.text[4..]), "UTF-16{name}: {plain}");
        assert!(plain.starts_with("<key=") && plain.ends_with(";>"), "UTF-16{name}: {plain}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_credential_split_across_chunks_is_masked() {
    let origin = Origin::answering(|request: &Message| {
        let size = request.head.target().trim_start_matches('/').parse().expect("a size");
        chunked(format!("before {} after", credential(request)).as_bytes(), size, "")
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.tunnel(HOST).await;
    let mask = "*".repeat(lab.canary.text.len());
    for size in 1..lab.canary.text.len() + 14 {
        let answer = wire.ask(request_text(&format!("GET /{size}"), HOST)).await;
        assert_eq!(answer.text(), format!("before {mask} after"), "{size}");
        assert!(answer.whole);
    }
    assert_eq!(lab.origin.streams(), 1, "every stream stays usable");
    lab.finish().await;
}

#[tokio::test]
async fn fields_trailers_reason_and_error_pages_are_masked() {
    let origin = Origin::answering(|request: &Message| {
        let key = credential(request);
        let base64 = BASE64_STANDARD.encode(format!("u:{key}"));
        format!(
            "HTTP/1.1 500 no {key}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\
             X-Echo: Bearer {key}\r\nSet-Cookie: k={base64}\r\nETag: \"{key}\"\r\n\
             X-Fine: fine\r\n\r\n{:x}\r\n{key}\r\n0\r\nX-Sum: {key}\r\n\r\n",
            key.len()
        )
    });
    let lab = Plan::api_key().start(origin).await;
    let answer = lab.ask("GET /fail\r\nTE: trailers").await;
    let mask = "*".repeat(lab.canary.text.len());
    assert_eq!(answer.head.status(), 500);
    assert_eq!(answer.head.one("x-echo"), Some(&*format!("Bearer {mask}")));
    assert_eq!(answer.head.one("x-fine"), Some("fine"));
    assert!(!answer.head.has("etag"), "it names other bytes");
    assert_eq!(answer.text(), mask);
    for (name, value) in &answer.trailers {
        assert_eq!((&*name.to_lowercase(), value), ("x-sum", &mask));
    }
    lab.finish().await;
}

#[tokio::test]
async fn fields_and_trailers_with_the_credential_in_their_names_are_removed() {
    let origin = Origin::answering(|request: &Message| {
        let key = credential(request);
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n{key}: 1\r\n\
             X-{key}-Y: 2\r\nX-Fine: fine\r\n\r\n4\r\nbody\r\n0\r\n{key}: 3\r\nX-Sum: 4\r\n\r\n"
        )
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.tunnel(HOST).await;
    for turn in 0..2 {
        let answer = wire.ask(request_text("GET /\r\nTE: trailers", HOST)).await;
        assert_eq!((answer.head.status(), &*answer.text()), (200, "body"), "{turn}");
        assert_eq!(answer.head.one("x-fine"), Some("fine"));
        let names = answer.head.fields.iter().chain(&answer.trailers).map(|(name, _)| name);
        let hidden = lab.canary.text.to_lowercase();
        let holders: Vec<&String> =
            names.filter(|name| name.to_lowercase().contains(&hidden)).collect();
        assert!(holders.is_empty(), "{holders:?}");
    }
    drop(wire);
    let records = lab.finish().await;
    assert_eq!(records[0]["scrubbed"], 3);
}

#[tokio::test]
async fn the_fields_of_a_101_are_masked_and_its_bytes_pass() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        let request = stream.request().await.expect("a handshake");
        let key = credential(&request);
        let said = switching(&request).replace("chat.v1", &key);
        stream.send(format!("{said}first words")).await;
        stream.rest().await;
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.tunnel(HOST).await;
    let handshake = "GET /\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let answer = wire.ask(request_text(handshake, HOST)).await.is(101);
    let mask = "*".repeat(lab.canary.text.len());
    assert_eq!(answer.head.one("sec-websocket-protocol"), Some(&*mask));
    assert_eq!(wire.exactly(11).await, b"first words");
    drop(wire);
    lab.finish().await;
}

#[tokio::test]
async fn basic_auth_masks_the_encoded_pair_and_the_password_but_not_the_user_name() {
    let origin = Origin::answering(|request: &Message| {
        let pair = request.head.one("authorization").expect("a credential");
        let coded = pair.strip_prefix("Basic ").expect("Basic");
        let plain =
            String::from_utf8(BASE64_STANDARD.decode(coded).expect("base64")).expect("text");
        ok(&format!("{pair} {plain} {}", coded.trim_end_matches('=')))
    });
    let plan = Plan::new(
        "{ id: pair, kind: basic }",
        "{ username: { env: USER_NAME }, password: { env: CANARY } }",
    );
    let lab = plan.variable("USER_NAME", "someone@example.test").start(origin).await;
    let text = lab.ask("GET /").await.text();
    let parts: Vec<&str> = text.split(' ').collect();
    assert_eq!(parts[0], "Basic");
    assert!(parts[1].trim_end_matches('=').bytes().all(|byte| byte == b'*'), "{text}");
    assert_eq!(parts[2].split_once(':').map(|pair| pair.0), Some("someone@example.test"));
    assert!(parts[3].bytes().all(|byte| byte == b'*'), "{text}");
    lab.finish().await;
}

#[tokio::test]
async fn answers_without_the_credential_are_as_they_came() {
    let mut bytes = String::new();
    for number in 0..20_000 {
        write!(bytes, "{number:x}*%").expect("a string");
    }
    let sent = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"strong\"\r\nContent-MD5: abc\r\n\r\n{bytes}",
        bytes.len()
    );
    let lab = Plan::api_key().start(Origin::answering(move |_: &Message| sent.clone())).await;
    let answer = lab.ask("GET /").await;
    assert_eq!(answer.text(), bytes);
    assert_eq!(answer.head.one("content-length"), Some(&*bytes.len().to_string()));
    assert_eq!(answer.head.one("etag"), Some("\"strong\""));
    assert_eq!(answer.head.one("content-md5"), Some("abc"));
    let records = lab.finish().await;
    assert_eq!(records[0]["scrubbed"], 0);
}

#[tokio::test]
async fn answers_to_requests_without_a_credential_are_not_scanned() {
    // A value of the agent's own, in a coding nobody can look into.
    let origin = Origin::answering(|request: &Message| {
        let own = request.head.one("x-own").unwrap_or("none");
        let asked = request.head.one("accept-encoding").unwrap_or("none");
        let range = request.head.one("range").unwrap_or("none");
        let body = format!("{own} {asked} {range}");
        format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: martian\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    });
    let rule = format!("{{ name: open, hosts: [{STRANGER}], action: pass }}");
    let lab = Plan::api_key().rule(&rule).start(origin).await;
    let mut wire = lab.tunnel(STRANGER).await;
    let request = "GET /\r\nX-Own: 0123456789\r\nAccept-Encoding: martian\r\nRange: bytes=0-1";
    let answer = wire.ask(request_text(request, STRANGER)).await;
    assert_eq!(answer.text(), "0123456789 martian bytes=0-1");
    drop(wire);
    lab.finish().await;
}
