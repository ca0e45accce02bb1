//! Forms with files that are too long to be held: the upstream gets the same body as of a short one, while it arrives, and
//! never a complete one of a body that is refused.

use std::sync::Arc;

use super::*;
use test_support::http2::Call;
use test_support::install::TOKEN_CI;
use test_support::process::{Served, soak};

const MULTIPART: &str = "Content-Type: multipart/form-data; boundary=kwb";

/// Longer bodies are not held.
const HELD_MAX: usize = 64 * 1024;

const CLOSE: &str = "--kwb--\r\n";

/// How the agent says where its body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sending {
    Length,
    Chunks,
    /// Over HTTP/2, with a length.
    Http2Length,
    Http2,
}

fn small() -> Plan {
    plan().limit(&format!("written_body_bytes_max: {HELD_MAX}"))
}

fn part(name: &str, value: &str) -> String {
    format!("--kwb\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

/// A file longer than what is held, which often looks like the beginning of a delimiter.
fn file() -> String {
    let named = part("file\"; filename=\"a.bin", &"\r\n--kw".repeat(4 * HELD_MAX / 6));
    named.replacen("\r\n\r\n", "\r\nContent-Type: application/octet-stream\r\n\r\n", 1)
}

/// Sends a form; returns the answer, or its part that came before the stream was cut.
async fn upload(lab: &Lab, sending: Sending, body: &str) -> Message {
    let head = format!("POST /a\r\n{MULTIPART}");
    match sending {
        Sending::Length => post(lab, &head, body).await,
        Sending::Chunks => {
            let mut wire = lab.tunnel(HOST).await;
            let head = format!("{head}\r\nTransfer-Encoding: chunked");
            wire.send(request_text(&head, HOST)).await;
            for piece in body.as_bytes().chunks(10_007) {
                let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
                // A refusal may come before all is read.
                if wire.try_send(chunk).await.is_err() {
                    break;
                }
            }
            let _ = wire.try_send("0\r\n\r\n").await;
            wire.answer("POST").await
        }
        Sending::Http2Length | Sending::Http2 => {
            let length = match sending {
                Sending::Http2Length => format!("\r\ncontent-length: {}", body.len()),
                _ => String::new(),
            };
            let client = lab.h2(HOST).await;
            let mut call: Call = client.open(&format!("{head}{length}"), false).await;
            if call.try_send(body.as_bytes()).await {
                call.upload().send_data(bytes::Bytes::new(), true).ok();
            }
            call.answer().await
        }
    }
}

#[tokio::test]
async fn form_fields_arrive_in_the_order_sent_and_with_a_length_if_it_is_known() {
    for (sending, offer) in [
        (Sending::Length, Offer::Http1),
        (Sending::Chunks, Offer::Http1),
        (Sending::Http2Length, Offer::Both),
        (Sending::Http2, Offer::Both),
        (Sending::Http2Length, Offer::Http1),
    ] {
        let origin = Origin::speaking(offer, |_| Reply::ok("fine"));
        let mut lab = small().start(origin).await;
        let (key, file, note) =
            (part("auth.key", &lab.placeholder("api_key")), file(), part("note", "1"));
        let (mine, ours) = (part("Auth.Key", "mine"), part("auth.key", &lab.canary.text));
        for (sent, want, is_known) in [
            ([&*key, &file, &note], [&*ours, &file, &note], true),
            ([&note, &mine, &file], [&note, &ours, &file], true),
            ([&file, &key, &note], [&file, &ours, &note], false),
            ([&file, &note, ""], [&file, &note, &ours], false),
        ] {
            let (sent, want) = (sent.concat() + CLOSE, want.concat() + CLOSE);
            let answer = upload(&lab, sending, &sent).await;
            assert_eq!(answer.text(), "fine", "{sending:?} {offer:?}");
            let received = lab.origin.arrival().await;
            assert!(
                received.text() == want,
                "{sending:?} {offer:?}: {} bytes",
                received.body.len()
            );
            let declares = matches!(sending, Sending::Length | Sending::Http2Length);
            let (has_length, length) = (is_known && declares, want.len().to_string());
            let lengths = has_length.then_some(&*length);
            assert_eq!(received.head.one("content-length"), lengths, "{sending:?} {offer:?}");
            let is_chunked = !has_length && offer == Offer::Http1;
            let coding = is_chunked.then_some("chunked");
            assert_eq!(received.head.one("transfer-encoding"), coding, "{sending:?} {offer:?}");
        }
        let records = lab.finish().await;
        assert!(records.iter().all(|record| record["outcome"] == "completed"), "{records:#?}");
        let sent = key.len() + file.len() + note.len() + CLOSE.len();
        assert_eq!(records[0]["bytes_in"], sent, "what the agent sent");
    }
}

#[tokio::test]
async fn a_second_credential_field_is_dropped_if_chunked_and_refused_if_a_length_was_sent() {
    let mut lab = small().start(Origin::saying("fine")).await;
    let (key, file) = (part("auth.key", &lab.placeholder("api_key")), file());
    let sent = [&*key, &file, &part("AUTH.KEY", "mine"), &key, CLOSE].concat();
    assert_eq!(upload(&lab, Sending::Chunks, &sent).await.text(), "fine");
    let ours = part("auth.key", &lab.canary.text);
    assert!(lab.origin.arrival().await.text() == [&*ours, &file, CLOSE].concat());
    // Twice in the beginning, or once there and once later.
    for sent in [sent, [&*key, &key, &file, CLOSE].concat()] {
        let (status, code, words) = error(&upload(&lab, Sending::Length, &sent).await);
        assert_eq!((status, &*code), (400, "bad_request"), "{words}");
        assert!(words.contains("has the field `auth.key` twice; send the field once"), "{words}");
    }
    let whole = lab.origin.received().iter().filter(|request| request.whole).count();
    assert_eq!(whole, 1);
    lab.finish().await;
}

#[tokio::test]
async fn a_form_that_becomes_invalid_while_it_streams_never_arrives_complete() {
    let (key, file) = (part("auth.key", "mine"), file());
    for (sending, offer) in [
        (Sending::Length, Offer::Http1),
        (Sending::Chunks, Offer::Http1),
        (Sending::Http2Length, Offer::Both),
        (Sending::Http2, Offer::Both),
    ] {
        for (rest, wanted) in [
            ("--kwb--\r\nmore", "text where a delimiter belongs"),
            ("x--kwb--\r\n", "text where a delimiter belongs"),
            ("", "text where a delimiter belongs"),
            (&part("a\"; name*=\"b", ""), "a part whose name is not plain"),
            (&part("a\\\"b", ""), "a part whose name is not plain"),
        ] {
            let origin = Origin::speaking(offer, |_| Reply::ok("fine"));
            let mut lab = small().start(origin).await;
            let sent = [&*key, &file, rest].concat();
            let (status, code, words) = error(&upload(&lab, sending, &sent).await);
            assert_eq!((status, &*code), (400, "bad_request"), "{sending:?} {rest:?}: {words}");
            assert!(words.contains(wanted), "{sending:?} {rest:?}: {words}");
            let received = lab.origin.arrival().await;
            assert!(!received.whole, "{sending:?} {rest:?}: it arrived complete");
            assert!(!received.text().contains("--kwb--"), "{sending:?} {rest:?}");
            let records = lab.finish().await;
            assert_eq!(records[0]["code"], "bad_request", "{records:#?}");
            assert_eq!(records[0]["outcome"], "refused", "{records:#?}");
        }
    }
}

#[tokio::test]
async fn a_form_with_an_invalid_beginning_is_not_sent() {
    let lab = small().start(Origin::saying("fine")).await;
    for sent in [format!("text{}{CLOSE}", file()), file().replace("name=\"file\"", "name") + CLOSE]
    {
        for sending in [Sending::Length, Sending::Chunks] {
            let (status, code, words) = error(&upload(&lab, sending, &sent).await);
            assert_eq!((status, &*code), (400, "bad_request"), "{words}");
        }
    }
    lab.finish_unreached().await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_never_arrives_complete() {
    let (key, file) = (part("auth.key", "mine"), file());
    for framing in ["Content-Length: 9999999", "Transfer-Encoding: chunked"] {
        let mut lab = small().start(Origin::saying("fine")).await;
        let mut wire = lab.tunnel(HOST).await;
        wire.send(request_text(&format!("POST /a\r\n{MULTIPART}\r\n{framing}"), HOST)).await;
        let sent = format!("{key}{file}");
        wire.send(match framing.starts_with("Content") {
            true => sent,
            false => format!("{:x}\r\n{sent}\r\n", sent.len()),
        })
        .await;
        lab.origin.has_read("filename=\"a.bin\"").await;
        wire.abort();
        let received = lab.origin.arrival().await;
        assert!(!received.whole && !received.text().contains(CLOSE), "{framing}");
        let records = lab.finish().await;
        assert_eq!(records[0]["outcome"], "client_aborted", "{records:#?}");
    }
}

#[tokio::test]
async fn an_answer_in_progress_is_cut_when_the_form_becomes_invalid() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.head().await.expect("a head");
        stream.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nso far").await;
        stream.rest().await;
    });
    let lab = small().start(origin).await;
    let mut wire = lab.tunnel(HOST).await;
    let sent = format!("{}{}", part("auth.key", "mine"), file());
    let head = format!("POST /a\r\n{MULTIPART}\r\nContent-Length: {}", sent.len() + 4);
    wire.send(request_text(&head, HOST)).await;
    wire.send(sent).await;
    assert_eq!(wire.head().await.expect("an answer").status(), 200);
    wire.send("more").await;
    assert!(wire.rest().await.len() < 100);
    let records = lab.finish().await;
    assert_eq!(records[0]["code"], "bad_request", "{records:#?}");
    assert_eq!(records[0]["outcome"], "refused", "{records:#?}");
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_for_a_long_form() {
    let plan = small().limit("continue_timeout: 1h");
    let mut lab = plan.start(Origin::saying("fine")).await;
    let mut wire = lab.tunnel(HOST).await;
    let sent = [&*part("auth.key", "mine"), &file(), CLOSE].concat();
    let length = sent.len();
    let head = format!("POST /a\r\n{MULTIPART}\r\nContent-Length: {length}\r\nDigest: sha-256=x");
    wire.send(request_text(&format!("{head}\r\nExpect: 100-continue"), HOST)).await;
    assert_eq!(wire.head().await.expect("an interim answer").status(), 100);
    wire.send(sent).await;
    assert_eq!(wire.answer("POST").await.text(), "fine");
    let received = lab.origin.arrival().await;
    assert!(received.text().contains(&part("auth.key", &lab.canary.text)));
    assert!(!received.head.has("expect") && !received.head.has("digest"), "{:?}", received.head);
    lab.finish().await;
}

#[tokio::test]
async fn uploads_in_progress_release_the_memory_that_held_the_beginnings_of_their_forms() {
    let plan = small().limit(&format!("written_body_bytes_total: {HELD_MAX}"));
    let lab = plan.start(Origin::saying("fine")).await;
    let (key, file) = (part("auth.key", "mine"), file());
    let sent = [&*key, &file, CLOSE].concat();
    let mut slow = Vec::new();
    for _ in 0..3 {
        let mut wire = lab.tunnel(HOST).await;
        let head = format!("POST /a\r\n{MULTIPART}\r\nTransfer-Encoding: chunked");
        wire.send(request_text(&head, HOST)).await;
        wire.send(format!("{:x}\r\n{sent}\r\n", sent.len())).await;
        slow.push(wire);
    }
    until("the memory to be given back", async || {
        upload(&lab, Sending::Length, &sent).await.head.status() == 200
    })
    .await;
    for mut wire in slow {
        wire.send("0\r\n\r\n").await;
        // Those that came while another's beginning was held were refused.
        assert!([200, 503].contains(&wire.answer("POST").await.head.status()));
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_long_form_is_not_sent_again_after_a_401() {
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let origin = api_in_forms(authorization.issuer().clone());
    let plan = plan_of(&authorization, &pair, &method(", placement: { body: token }"));
    let limit = format!("written_body_bytes_max: {HELD_MAX}");
    // Without the setting, a form of 256 KiB would be kept for another attempt.
    let plan = plan.limit(&limit).top(&format!("oauth: {{ replay_bytes_max: {HELD_MAX} }}"));
    let lab = plan.start(origin).await;
    let short = [&*part("a", "1"), CLOSE].concat();
    let long = [&*part("token", "kwph"), &file(), CLOSE].concat();
    for sending in [Sending::Length, Sending::Chunks] {
        assert_eq!(upload(&lab, sending, &long).await.text(), "fine");
        authorization.issuer().expire_all();
        assert_eq!(upload(&lab, sending, &long).await.head.status(), 401);
        // It was renewed for the next one.
        until("another token", async || upload(&lab, sending, &long).await.text() == "fine").await;
    }
    let before = lab.origin.received().len();
    authorization.issuer().expire_all();
    assert_eq!(upload(&lab, Sending::Length, &short).await.text(), "fine");
    assert_eq!(lab.origin.received().len(), before + 2, "a short one is sent again");
    lab.finish().await;
}

#[tokio::test]
async fn a_form_that_is_kept_for_another_attempt_is_rewritten_with_the_new_token() {
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let origin = api_in_forms(authorization.issuer().clone());
    let plan = plan_of(&authorization, &pair, &method(", placement: { body: token }"));
    let lab = plan.limit(&format!("written_body_bytes_max: {HELD_MAX}")).start(origin).await;
    let sent = [&*file(), &part("token", "kwph"), CLOSE].concat();
    assert_eq!(upload(&lab, Sending::Length, &sent).await.text(), "fine");
    authorization.issuer().expire_all();
    assert_eq!(upload(&lab, Sending::Length, &sent).await.text(), "fine");
    let received = lab.origin.received();
    assert_eq!(received.len(), 3);
    assert!(received[0].body == received[1].body && received[1].body != received[2].body);
    lab.finish().await;
}

#[tokio::test]
async fn a_form_that_a_signature_covers_is_held_or_refused_if_it_is_too_long() {
    let auth = "{ id: key, kind: hmac, fields: [{ name: api_key }, { name: secret }], \
                signature: { key: secret, message: \"{body_length}\" }, \
                place: [{ header: X-Sum, value: \"{signature}\" }, \
                        { body: auth.key, value: \"{api_key}\" }] }";
    let key = Canary::new("key-of-acme-");
    let plan = Plan::new(auth, "{ api_key: { env: KEY }, secret: { env: CANARY } }");
    let plan = plan.secret("KEY", &key).limit(&format!("written_body_bytes_max: {HELD_MAX}"));
    let mut lab = plan.start(Origin::saying("fine")).await;
    let short = [&*part("note", "1"), CLOSE].concat();
    assert_eq!(upload(&lab, Sending::Length, &short).await.text(), "fine");
    let received = lab.origin.arrival().await;
    assert_eq!(received.text(), [part("note", "1"), part("auth.key", &key.text)].concat() + CLOSE);
    assert!(received.head.has("x-sum"));
    for sending in [Sending::Length, Sending::Chunks] {
        let long = [&*part("auth.key", "mine"), &file(), CLOSE].concat();
        let (status, code, words) = error(&upload(&lab, sending, &long).await);
        assert_eq!((status, &*code), (413, "too_large"), "{words}");
    }
    lab.finish_after(1).await;
}

/// An API that reads its token in a form.
fn api_in_forms(issuer: Issuer) -> Origin {
    Origin::answering(move |request: &Message| {
        let body = request.text();
        let token =
            body.split("name=\"token\"\r\n\r\n").nth(1).and_then(|it| it.split('\r').next());
        match token.is_some_and(|token| issuer.is_live(token)) {
            true => ok("fine"),
            false => "HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno".to_owned(),
        }
    })
}

#[tokio::test]
async fn a_file_of_any_size_streams_beside_the_key_in_constant_memory() {
    /// What a gateway may need more for such an upload than for none.
    const MEMORY_MORE_MAX: usize = 32 << 20;
    let pieces: usize = if soak() { 4_096 } else { 400 };
    // 256 KiB, in which no part equals another one.
    let piece: Vec<u8> = (0..1_u32 << 16).flat_map(u32::to_be_bytes).collect();
    let named = part("file\"; filename=\"a.bin", "|");
    let (begin, end) = named.split_once('|').expect("one");
    let body = |key: &str| {
        let begin = [&*part("note", "1"), &part("auth.key", key), begin].concat();
        [begin.as_bytes(), &piece.repeat(pieces), end.as_bytes(), CLOSE.as_bytes()].concat()
    };
    let plan = plan();
    let want = Arc::new(body(&plan.canary().text));
    let origin = Origin::sharing(want, move |mut stream, want| async move {
        stream.stop_recording();
        let head = stream.head().await.expect("a head");
        assert_eq!(head.one("content-length"), Some(&*want.len().to_string()));
        let mut got = 0;
        while got < want.len() {
            let bytes = stream.some().await;
            let is_right = want.get(got..got + bytes.len()) == Some(&*bytes);
            assert!(is_right && !bytes.is_empty(), "another body, after {got} bytes");
            got += bytes.len();
        }
        stream.send(ok("fine")).await;
        stream.finish().await;
    });
    let served = Served::start(&plan, &origin, &[]);
    // What the first request costs is not the body's.
    let mut wire = served.tunnel(HOST, TOKEN_CI).await;
    wire.send(request_text(&format!("POST /a\r\n{MULTIPART}\r\nContent-Length: 3"), HOST)).await;
    wire.send("bad").await;
    assert_eq!(wire.answer("POST").await.head.status(), 400);
    let before = served.memory();

    let sent = body("mine");
    let mut wire = served.tunnel(HOST, TOKEN_CI).await;
    let head = format!("POST /a\r\n{MULTIPART}\r\nContent-Length: {}", sent.len());
    wire.send(request_text(&head, HOST)).await;
    for piece in sent.chunks(piece.len()) {
        wire.send(piece).await;
    }
    assert_eq!(wire.answer("POST").await.text(), "fine");
    let (peak, before) = (served.memory_peak() >> 20, before >> 20);
    assert!(peak < before + (MEMORY_MORE_MAX >> 20), "{before} MiB, then up to {peak} MiB");
}
