//! Memory for decoders of compressed answers: bounded, shared by agents, and looked for before a request is
//! sent.

use test_support::*;

/// The beginning of a body in zstd whose window is 8 MiB (RFC 8878 §3.1.1): a frame's head, and a block
/// of five bytes as they are.
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x00\x68\x28\x00\x00fine\n";

#[tokio::test]
async fn the_memory_of_decoders_is_bounded_and_one_agent_cannot_take_all_of_it() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        if stream.request().await.is_some() {
            let fields = "Content-Encoding: zstd\r\nTransfer-Encoding: chunked";
            stream.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{:x}\r\n", ZSTD.len())).await;
            stream.send([ZSTD, b"\r\n"].concat()).await;
            stream.hold().await;
        }
    });
    let plan = Plan::api_key().agent("other", "acme").limit("decoder_bytes_total: 41943040");
    let lab = plan.start(origin).await;
    let begin = async |agent: &str| {
        let mut wire = lab.tunnel_as(agent, HOST).await;
        wire.send(request_text("GET /a", HOST)).await;
        let head = wire.head().await.expect("an answer");
        assert!(!head.has("retry-after"), "the upstream has answered: {head:?}");
        (head.status(), head.one("keyward-error").map(str::to_owned), wire)
    };
    let mut open = vec![];
    let code = loop {
        let (status, code, mut wire) = begin("ci").await;
        if status != 200 {
            assert_eq!((status, open.len()), (502, 2), "three take 24 MiB of 40");
            break code;
        }
        assert_eq!(wire.chunk().await.as_deref(), Some(ZSTD));
        open.push(wire);
    };
    assert_eq!(code.as_deref(), Some("overloaded"));
    let (status, _, _other) = begin("other").await;
    assert_eq!(status, 200, "another agent's");
    open.swap_remove(0).abort();
    until("the memory to be given back", async || begin("ci").await.0 == 200).await;
    lab.finish().await;
}

/// SDKs send a request again after a 503, also one that has been processed.
#[tokio::test]
async fn accept_encoding_omits_codings_that_decoder_memory_has_no_room_for() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        while let Some(request) = stream.request().await {
            let asked = request.head.one("accept-encoding").unwrap_or_default();
            if !asked.contains("zstd") {
                stream.send(ok("fine")).await;
                continue;
            }
            let fields = "Content-Encoding: zstd\r\nTransfer-Encoding: chunked";
            stream.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{:x}\r\n", ZSTD.len())).await;
            stream.send([ZSTD, b"\r\n"].concat()).await;
            stream.hold().await;
        }
    });
    let plan = Plan::api_key().agent("other", "acme").limit("decoder_bytes_total: 41943040");
    let lab = plan.start(origin).await;
    let post = async |agent: &str, path: &str, codings: &str| {
        let mut wire = lab.tunnel_as(agent, HOST).await;
        let head = format!("POST {path}{codings}\r\nContent-Length: 4");
        wire.send(request_text(&head, HOST)).await;
        wire.send("once").await;
        wire
    };
    let mut open = vec![];
    for _ in 0..2 {
        let mut wire = post("ci", "/fill", "\r\nAccept-Encoding: gzip, zstd").await;
        assert_eq!(wire.head().await.expect("an answer").status(), 200);
        assert_eq!(wire.chunk().await.as_deref(), Some(ZSTD));
        open.push(wire);
    }
    for (path, codings, asked) in [
        ("/none", "\r\nAccept-Encoding: zstd, br;q=0.5", "identity"),
        ("/small", "\r\nAccept-Encoding: br, zstd, gzip", "gzip"),
        ("/any", "", "identity"),
    ] {
        let answer = post("ci", path, codings).await.answer("POST").await;
        assert_eq!((answer.head.status(), &*answer.text()), (200, "fine"), "{path}");
        let received = lab.origin.received();
        let of_path: Vec<_> = received.iter().filter(|it| it.head.target() == path).collect();
        assert_eq!(of_path.len(), 1, "{path}");
        assert_eq!(of_path[0].head.all("accept-encoding"), [asked], "{path}");
    }
    let mut other = post("other", "/other", "\r\nAccept-Encoding: zstd").await;
    assert_eq!(other.head().await.expect("an answer").one("content-encoding"), Some("zstd"));
    drop((open, other));
    lab.finish().await;
}
