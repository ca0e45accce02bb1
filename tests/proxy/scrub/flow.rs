//! Scrubbing delays no answer: events pass one by one, also in coded bodies, slow answers start at once, and long work
//! for one answer does not block the others.

use std::io::Write as _;
use std::sync::Arc;

use tokio::sync::Notify;

use super::*;

const STREAM: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";

/// Sends `events`, each only when the client has the one before.
fn one_by_one(head: String, events: Vec<Vec<u8>>) -> (Origin, Arc<Notify>) {
    let seen = Arc::new(Notify::new());
    let shared = (seen.clone(), head, events);
    let origin = Origin::sharing(shared, |mut stream, (told, head, events)| async move {
        stream.request().await;
        stream.send(head).await;
        for event in events {
            let chunk = [format!("{:x}\r\n", event.len()).as_bytes(), &event, b"\r\n"].concat();
            stream.send(chunk).await;
            patiently("the client", told.notified()).await;
        }
        stream.send("0\r\n\r\n").await;
    });
    (origin, seen)
}

async fn arrive_one_by_one(head: String, events: Vec<Vec<u8>>) {
    let (origin, seen) = one_by_one(head, events.clone());
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.sent("GET /").await;
    assert_eq!(wire.head().await.expect("a head").status(), 200);
    for event in events {
        assert_eq!(wire.chunk().await, Some(event));
        seen.notify_one();
    }
    assert_eq!(wire.chunk().await, Some(vec![]));
    lab.finish().await;
}

fn events() -> Vec<Vec<u8>> {
    (0..5).map(|number| format!("data: event {number}\n\n").into_bytes()).collect()
}

/// The events in one coded body, flushed after each, and its end.
fn gzipped(events: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    let flushed = |event: Vec<u8>| {
        encoder.write_all(&event).expect("memory");
        encoder.flush().expect("memory");
        std::mem::take(encoder.get_mut())
    };
    let mut pieces: Vec<Vec<u8>> = events.into_iter().map(flushed).collect();
    pieces.push(encoder.finish().expect("memory"));
    pieces
}

#[tokio::test]
async fn each_event_arrives_before_the_next_is_sent() {
    arrive_one_by_one(format!("{STREAM}Content-Type: text/event-stream\r\n\r\n"), events()).await;
}

/// The lengths of the chunks in which an answer comes that pauses after `tail`.
async fn lengths_around(tail: fn(&str) -> String) -> Vec<usize> {
    let seen = Arc::new(Notify::new());
    let origin = Origin::sharing(seen.clone(), move |mut stream, told| async move {
        let request = stream.request().await.expect("a request");
        let piece = format!("some words and {}", tail(&credential(&request)));
        let length = piece.len();
        stream.send(format!("{STREAM}\r\n{length:x}\r\n{piece}\r\n")).await;
        patiently("the client", told.notified()).await;
        stream.send("6\r\n, end\n\r\n0\r\n\r\n").await;
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.sent("GET /").await;
    assert_eq!(wire.head().await.expect("a head").status(), 200);
    let mut lengths = vec![wire.chunk().await.expect("a chunk").len()];
    seen.notify_one();
    while let Some(chunk) = wire.chunk().await.filter(|chunk| !chunk.is_empty()) {
        lengths.push(chunk.len());
    }
    lab.finish().await;
    lengths
}

/// An agent that has written what the upstream sends would learn what begins the credential.
#[tokio::test]
async fn the_length_of_withheld_bytes_does_not_reveal_the_start_of_the_credential() {
    let expected = lengths_around(|_| "zzzzz".to_owned()).await;
    assert_eq!(expected, [15, 11]);
    assert_eq!(lengths_around(|key| key[..5].to_owned()).await, expected);
    assert_eq!(lengths_around(|key| BASE64_STANDARD.encode(key)[..5].to_owned()).await, expected);
    assert_eq!(lengths_around(|_| "\\u006".to_owned()).await, expected);
}

#[tokio::test]
async fn each_coded_event_arrives_before_the_next_is_sent() {
    arrive_one_by_one(format!("{STREAM}Content-Encoding: gzip\r\n\r\n"), gzipped(events())).await;
}

/// Results of GraphQL as servers write them: a result ends with the delimiter of the next part, or the delimiter comes
/// alone.
fn results() -> [(&'static str, Vec<Vec<u8>>); 2] {
    let fields = "\r\ncontent-type: application/json\r\n\r\n{}\r\n";
    let apollo = ["\r\n--graphql", fields, "--graphql"].concat().into_bytes();
    let next = [fields, "--graphql"].concat().into_bytes();
    let yoga = ["---", fields, "---", fields, "---"].map(|piece| piece.as_bytes().to_vec());
    [("graphql", vec![apollo, next.clone(), next]), ("-", Vec::from(yoga))]
}

#[tokio::test]
async fn each_part_of_a_multipart_answer_arrives_before_the_next_is_sent() {
    for (boundary, pieces) in results() {
        let head = format!("{STREAM}Content-Type: multipart/mixed;boundary=\"{boundary}\"\r\n");
        let coded = format!("{head}Content-Encoding: gzip\r\n\r\n");
        arrive_one_by_one(coded, gzipped(pieces.clone())).await;
        arrive_one_by_one(format!("{head}\r\n"), pieces).await;
    }
}

#[tokio::test]
async fn the_head_of_a_coded_stream_comes_before_its_first_event() {
    let seen = Arc::new(Notify::new());
    let origin = Origin::sharing(seen.clone(), move |mut stream, told| async move {
        stream.request().await;
        stream.send(format!("{STREAM}Content-Encoding: gzip\r\n\r\n")).await;
        patiently("the client", told.notified()).await;
        stream.send("0\r\n\r\n").await;
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.sent("GET /").await;
    assert_eq!(wire.head().await.expect("a head").status(), 200);
    seen.notify_one();
    assert_eq!(wire.chunk().await, Some(vec![]));
    lab.finish().await;
}

/// A key that only signs delays no stream, but a body of known length is searched across its pieces.
#[tokio::test]
async fn a_key_of_aws_in_two_pieces_is_masked_where_the_length_is_known() {
    let secret = Canary::new("");
    let length = secret.text.len();
    let seen = Arc::new(Notify::new());
    let shared = (seen.clone(), secret.text.clone());
    let origin = Origin::sharing(shared, move |mut stream, (told, key)| async move {
        stream.request().await;
        let (begin, end) = key.split_at(9);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", length + 2);
        stream.send(format!("{head}<{begin}")).await;
        patiently("the client", told.notified()).await;
        stream.send(format!("{end}>")).await;
    });
    let auth = "{ id: key, kind: aws_sigv4, service: s3, region: eu-west-1 }";
    let fields = "{ access_key_id: { env: AWS_ID }, secret_access_key: { env: SECOND } }";
    // The id of a key is no secret.
    let plan = Plan::new(auth, fields).variable("AWS_ID", "AKIAKEYWARDTEST00001");
    let lab = plan.secret("SECOND", &secret).start(origin).await;
    let mut wire = lab.sent("GET /").await;
    assert_eq!(wire.head().await.expect("a head").status(), 200);
    assert_eq!(wire.exactly(1).await, b"<");
    seen.notify_one();
    let expected = format!("{}>", "*".repeat(length));
    assert_eq!(wire.exactly(length + 1).await, expected.into_bytes());
    lab.finish().await;
}

#[tokio::test]
async fn a_decompression_bomb_is_cut_and_other_requests_are_served_meanwhile() {
    let zeros = vec![0; 40 << 20];
    let mut encoder = brotli::CompressorWriter::new(vec![], 4096, 5, 22);
    encoder.write_all(&zeros).expect("memory");
    let bomb = encoder.into_inner();
    assert!(bomb.len() < 8192, "{}", bomb.len());
    let origin = Origin::answering(move |request: &Message| match request.head.target() {
        "/bomb" => chunked(&bomb, 8192, "Content-Encoding: br\r\n"),
        _ => ok("fine").into_bytes(),
    });
    let lab = Plan::api_key().start(origin).await;
    let (mut bombed, mut other) = (lab.tunnel(HOST).await, lab.tunnel(HOST).await);
    bombed.send(request_text("GET /bomb", HOST)).await;
    assert_eq!(other.ask(request_text("GET /", HOST)).await.text(), "fine");
    let answer = bombed.answer("GET").await;
    assert!(!answer.whole || answer.head.status() == 502, "{:?}", answer.head);
    drop((bombed, other));
    let records = lab.finish().await;
    let bombed = records.iter().find(|record| record["path"] == "/bomb").expect("a record");
    assert_eq!(bombed["code"], "coding_unscannable");
}

#[tokio::test]
async fn a_prefix_of_the_credential_at_the_end_of_an_answer_is_delivered() {
    // Every answer ends with what begins the secret: held back, and given at the end.
    let origin = Origin::answering(|request: &Message| {
        let key = credential(request);
        ok(&format!("{} {}", &key[..4], &key[..7]))
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.tunnel(HOST).await;
    let key = lab.canary.text.clone();
    for _ in 0..20 {
        let answer = wire.ask(request_text("GET /", HOST)).await;
        assert_eq!(answer.text(), format!("{} {}", &key[..4], &key[..7]));
    }
    assert_eq!(lab.origin.streams(), 1);
    drop(wire);
    lab.finish().await;
}
