//! Requests put together from hostile pieces: whatever comes out towards the origin is one strict
//! message after another, each with the credential once; and nothing panics.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use test_support::*;

const LINES: &[&str] = &[
    "GET /a HTTP/1.1",
    "POST /a HTTP/1.1",
    "GET  /a HTTP/1.1",
    "GET /a HTTP/1.0",
    "GET /a",
    "TRACE /a HTTP/1.1",
    "CONNECT a:1 HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "GET * HTTP/1.1",
    "GET https://api.acme.test/a HTTP/1.1",
    "GET http://api.acme.test/a HTTP/1.1",
    "GET https://u:p@api.acme.test/a HTTP/1.1",
    "GET //x HTTP/1.1",
    "PRI * HTTP/2.0",
    "GET /a HTTP/1.1\r",
    "get /a HTTP/1.1",
    "GET /%00?x HTTP/1.1",
    "GET /a#b HTTP/1.1",
];

const FIELDS: &[&str] = &[
    "Host: api.acme.test",
    "Host: api.acme.test",
    "Host: api.acme.test",
    "Host: api.acme.test:443",
    "Host: evil.test",
    "Host : api.acme.test",
    "host:api.acme.test.",
    "Host:",
    "Content-Length: 5",
    "Content-Length: 0",
    "Content-Length: 5, 5",
    "Content-Length: +5",
    "Content-Length: 4",
    "Content_Length: 3",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: \u{b}chunked",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding: identity",
    "TE: trailers, chunked",
    "Connection: close",
    "Connection: keep-alive, x-api-key, host, content-length",
    "Connection: transfer-encoding",
    "Connection: upgrade, http2-settings",
    "Upgrade: h2c",
    "Upgrade: websocket",
    "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
    "Expect: 100-continue",
    "Expect: 200-ok",
    "X-Api-Key: evil",
    "x_api_key: evil",
    "X-API-Key : evil",
    "Proxy-Authorization: Basic x",
    "Proxy-Connection: keep-alive",
    "Keyward-Connection: acme",
    "X-A: 1\r\n folded",
    "X-A: 1\nX-Api-Key: evil",
    "X-A: 1\rX-Api-Key: evil",
    "no colon",
    ": empty",
    "X-A: \u{e9}",
    "X-A:\0",
    "Trailer: x-api-key",
    "Max-Forwards: 0",
];

const BODIES: &[&str] = &[
    "",
    "hello",
    "5\r\nhello\r\n0\r\n\r\n",
    "5;x=y\r\nhello\r\n0\r\nX-Api-Key: evil\r\n\r\n",
    "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: api.acme.test\r\n\r\n",
    "5\nhello\n0\n\n",
    "fffffffffffffffff\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "GET /smuggled HTTP/1.1\r\nX: ",
];

/// xorshift64*: the same requests in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap_or(0) % bound
    }

    fn of<'a>(&mut self, pieces: &[&'a str]) -> &'a str {
        pieces[self.below(pieces.len())]
    }

    fn request(&mut self) -> String {
        // Most begin well, so that the later pieces are reached.
        let mut text = match self.below(3) {
            0 => self.of(LINES).to_owned(),
            _ => self.of(&LINES[..2]).to_owned(),
        };
        text.push_str("\r\nHost: api.acme.test\r\n");
        for _ in 0..self.below(4) {
            text.push_str(self.of(FIELDS));
            text.push_str(if self.below(12) == 0 { "\n" } else { "\r\n" });
        }
        text + "\r\n" + self.of(BODIES)
    }
}

/// Counts panics of the gateway's cores from now on; other tests' threads have other names.
fn count_panics() -> &'static AtomicUsize {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name().is_some_and(|name| name.starts_with("keyward-")) {
            PANICS.fetch_add(1, Relaxed);
        }
        before(info);
    }));
    &PANICS
}

#[tokio::test]
async fn whatever_is_sent_the_origin_gets_strict_messages_with_one_credential() {
    let panics = count_panics();
    let lab = Plan::api_key()
        .limit("head_timeout: 200ms")
        .limit("idle_timeout: 200ms")
        .limit("body_idle_timeout: 200ms")
        .start(Origin::saying("fine"))
        .await;
    let mut dice = Dice(0x6b77_7068);
    for _ in 0..40 {
        let streams = (0..10).map(|_| {
            let text: String = (0..1 + dice.below(3)).map(|_| dice.request()).collect();
            let lab = &lab;
            async move {
                // Every other one to the plain port, in absolute form.
                let tunnelled = text.len().is_multiple_of(2);
                let mut wire = match tunnelled {
                    true => lab.tunnel(HOST).await,
                    false => lab.client().await,
                };
                let line = lab.authorization("ci");
                let absolute = text
                    .replace(" /a HTTP", &format!(" https://{HOST}/a HTTP"))
                    .replace("\r\nHost: api.acme.test\r\n", &format!("\r\nHost: {HOST}\r\n{line}"));
                let text = if tunnelled { text } else { absolute };
                drop(wire.try_send(text).await);
                wire.rest().await;
            }
        });
        futures_util::future::join_all(streams).await;
    }
    let received = lab.origin.received();
    assert!(received.len() > 100, "enough gets through to say something: {}", received.len());
    for request in &received {
        let raw = String::from_utf8_lossy(&request.head.raw);
        assert_eq!(request.head.all("x-api-key"), [&*lab.canary.text], "{raw}");
        assert_eq!(request.head.all("host"), [HOST], "{raw}");
        assert!(!raw.contains("evil"), "{raw}");
        for gone in
            ["proxy-authorization", "proxy-connection", "keyward-connection", "http2-settings"]
        {
            assert!(!request.head.has(gone), "{raw}");
        }
        let framings =
            request.head.all("content-length").len() + request.head.all("transfer-encoding").len();
        assert!(framings <= 1, "{raw}");
        assert!(request.trailers.is_empty(), "{raw}");
    }
    lab.finish().await;
    assert_eq!(panics.load(Relaxed), 0);
}
