//! Coded answers: looked into, passed as they came or not at all.

use std::io::Write as _;

use super::*;

pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn coded(coding: &str, text: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => gzip(text),
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(vec![], flate2::Compression::fast());
            encoder.write_all(text).expect("memory");
            encoder.finish().expect("memory")
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(vec![], 4096, 5, 20);
            encoder.write_all(text).expect("memory");
            encoder.into_inner()
        }
        "zstd" => {
            let mut out = vec![0; zstd_safe::compress_bound(text.len())];
            let length = zstd_safe::compress(&mut out[..], text, 3).expect("room");
            out.truncate(length);
            out
        }
        "gzip, br" => coded("br", &coded("gzip", text)),
        other => unreachable!("{other}"),
    }
}

const CODINGS: [&str; 5] = ["gzip", "deflate", "br", "zstd", "gzip, br"];

fn with_length(coding: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nETag: \"e\"\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Text that no coding shrinks to nothing.
fn long() -> String {
    let line = |number: usize| format!("{number}: {:x}\n", number * 2_654_435_761 % 1_000_003);
    (0..20_000).map(line).collect()
}

#[tokio::test]
async fn a_coded_answer_without_the_credential_is_as_it_came() {
    for coding in CODINGS {
        let body = coded(coding, long().as_bytes());
        let (sent, again) = (body.clone(), body.clone());
        let origin = Origin::answering(move |request: &Message| match request.head.target() {
            "/length" => with_length(coding, &sent),
            _ => chunked(&sent, 1000, &format!("Content-Encoding: {coding}\r\n")),
        });
        let lab = Plan::api_key().start(origin).await;
        let mut wire = lab.tunnel(HOST).await;
        for path in ["/length", "/chunked", "/length"] {
            let answer = wire.ask(request_text(&format!("GET {path}"), HOST)).await;
            assert_eq!(answer.head.status(), 200, "{coding} {}", answer.text());
            assert!(answer.whole && answer.body == again, "{coding} {path}");
            assert_eq!(answer.head.one("content-encoding"), Some(coding));
            if path == "/length" {
                assert_eq!(answer.head.one("etag"), Some("\"e\""));
                assert_eq!(answer.head.one("content-length"), None);
            }
        }
        assert_eq!(lab.origin.streams(), 1, "{coding}");
        let records = lab.finish().await;
        assert!(records.iter().all(|record| record["scrubbed"] == 0));
    }
}

#[tokio::test]
async fn a_short_coded_answer_with_the_credential_is_a_refusal() {
    for coding in CODINGS {
        let origin = Origin::answering(move |request: &Message| {
            if request.head.target() == "/fine" {
                return ok("fine").into_bytes();
            }
            with_length(
                coding,
                &coded(coding, format!("you sent {}", credential(request)).as_bytes()),
            )
        });
        let lab = Plan::api_key().start(origin).await;
        let mut wire = lab.sent("GET /echo").await;
        let answer = wire.answer("GET").await;
        assert_eq!(answer.refusal(), (502, Some("secret_echoed")), "{coding}");
        assert_eq!(answer.json()["error"]["code"], "secret_echoed");
        assert!(!answer.head.has("etag") && !answer.head.has("content-encoding"));
        wire.send(request_text("GET /fine", HOST)).await;
        assert_eq!(wire.answer("GET").await.text(), "fine", "the agent's stream goes on");
        let records = lab.finish().await;
        assert_eq!(records[0]["code"], "secret_echoed");
        assert_eq!(records[0]["outcome"], "refused");
    }
}

#[tokio::test]
async fn a_long_coded_answer_is_cut_before_the_credential() {
    for coding in CODINGS {
        let origin = Origin::answering(move |request: &Message| {
            let text = format!("{}{}{}", long(), credential(request), long());
            let body = coded(coding, text.as_bytes());
            match request.head.target() {
                "/length" => with_length(coding, &body),
                _ => chunked(&body, 1000, &format!("Content-Encoding: {coding}\r\n")),
            }
        });
        let lab = Plan::api_key().start(origin).await;
        for path in ["/length", "/chunked"] {
            let answer = lab.ask(&format!("GET {path}")).await;
            if answer.head.status() == 200 {
                assert!(!answer.whole, "{coding} {path}: a cut shows");
            } else {
                assert_eq!(answer.head.one("keyward-error"), Some("secret_echoed"), "{coding}");
            }
        }
        let records = lab.finish().await;
        assert!(records.iter().all(|record| record["code"] == "secret_echoed"), "{records:?}");
    }
}

#[tokio::test]
async fn an_answer_in_a_coding_that_cannot_be_decoded_is_refused() {
    let origin = Origin::answering(|request: &Message| {
        let body = credential(request);
        let whole = gzip(body.as_bytes());
        match request.head.target() {
            "/unknown" => with_length("compress", body.as_bytes()),
            "/half-known" => with_length("gzip, compress", &whole),
            "/none-of-it" => with_length("gzip", body.as_bytes()),
            "/more" => with_length("br", &[coded("br", b"innocent"), body.into_bytes()].concat()),
            "/deep" => with_length("gzip, gzip, gzip, gzip", &whole),
            "/part" => [
                &b"HTTP/1.1 206 Part\r\nContent-Encoding: gzip\r\nContent-Range: bytes 5-2099/2100\r\n"[..],
                format!("Content-Length: {}\r\n\r\n", whole.len() - 5).as_bytes(),
                &whole[5..],
            ]
            .concat(),
            other => unreachable!("{other}"),
        }
    });
    let lab = Plan::api_key().start(origin).await;
    for path in ["/unknown", "/half-known", "/none-of-it", "/more", "/deep", "/part"] {
        let range = if path == "/part" { "\r\nRange: bytes=5-" } else { "" };
        let answer = lab.ask(&format!("GET {path}{range}")).await;
        assert_eq!(answer.head.status(), 502, "{path}: {}", answer.text());
        let code = answer.head.one("keyward-error").expect("ours");
        assert!(["coding_unscannable", "secret_echoed"].contains(&code), "{path}: {code}");
    }
    let records = lab.finish().await;
    assert!(records.iter().all(|record| record["status"] == 502), "{records:?}");
}

/// Servers leave out the checksum of gzip, or end it by a flush; clients accept that.
#[tokio::test]
async fn a_coded_answer_without_its_end_is_passed_on_to_the_last_byte() {
    let mut flushed = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    flushed.write_all(b"{\"ok\": true}").expect("memory");
    flushed.flush().expect("memory");
    let flushed = std::mem::take(flushed.get_mut());
    let (zipped, deflated) = (gzip(long().as_bytes()), coded("deflate", long().as_bytes()));
    let bodies = [
        ("gzip", zipped[..zipped.len() - 8].to_vec()),
        ("gzip", zipped[..zipped.len() - 3].to_vec()),
        ("deflate", deflated[..deflated.len() - 4].to_vec()),
        ("gzip", flushed),
    ];
    let sent = bodies.clone();
    let origin = Origin::answering(move |request: &Message| match request.head.target() {
        "/echo" => {
            let echo =
                gzip([long().as_bytes(), credential(request).as_bytes()].concat().as_slice());
            with_length("gzip", &echo[..echo.len() - 8])
        }
        path => {
            let (coding, body) = &sent[path[1..].parse::<usize>().expect("a number")];
            with_length(coding, body)
        }
    });
    let lab = Plan::api_key().start(origin).await;
    for (number, (coding, body)) in bodies.iter().enumerate() {
        let answer = lab.ask(&format!("GET /{number}")).await;
        assert_eq!((answer.head.status(), answer.whole), (200, true), "{number}: {coding}");
        assert!(answer.body == *body, "{number}: {} of {}", answer.body.len(), body.len());
    }
    assert!(!lab.ask("GET /echo").await.whole, "it is cut before the credential");
    lab.finish().await;
}

#[tokio::test]
async fn a_coded_answer_that_ends_within_a_block_or_whose_stream_is_cut_is_visibly_cut() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        while let Some(request) = stream.request().await {
            let (zstd, zipped) = (coded("zstd", long().as_bytes()), gzip(long().as_bytes()));
            match request.head.target() {
                "/block" => stream.send(with_length("zstd", &zstd[..zstd.len() / 2])).await,
                _ => {
                    let answer = with_length("gzip", &zipped);
                    stream.send(answer[..answer.len() - 100].to_vec()).await;
                    return stream.into_wire().abort();
                }
            }
        }
    });
    let lab = Plan::api_key().start(origin).await;
    for path in ["/block", "/stream"] {
        assert!(!lab.ask(&format!("GET {path}")).await.whole, "{path}");
    }
    let records = lab.finish().await;
    assert_eq!(records[0]["code"], "coding_unscannable", "{records:?}");
}

#[tokio::test]
async fn an_answer_without_a_body_passes_in_any_coding() {
    let origin = Origin::answering(|request: &Message| match request.head.method() {
        "HEAD" => "HTTP/1.1 200 OK\r\nContent-Encoding: compress\r\nContent-Length: 99\r\n\r\n",
        "PUT" => "HTTP/1.1 204 No\r\nContent-Encoding: compress\r\n\r\n",
        _ => "HTTP/1.1 200 OK\r\nContent-Encoding: compress\r\nContent-Length: 0\r\n\r\n",
    });
    let lab = Plan::api_key().start(origin).await;
    for request in ["HEAD /", "PUT /\r\nContent-Length: 0", "GET /"] {
        let answer = lab.ask(request).await;
        assert!(answer.head.status() < 300, "{request}: {answer:?}");
        assert_eq!(answer.head.one("content-encoding"), Some("compress"));
    }
    lab.finish().await;
}

/// The coded length is shorter if a guess that the answer repeats is the beginning of the credential.
#[tokio::test]
async fn the_length_of_a_coded_answer_does_not_show_the_credential() {
    for coding in CODINGS {
        let origin = Origin::answering(move |request: &Message| {
            let guess = request.head.one("x-guess").unwrap_or_default();
            let text = format!("{guess} {} {}", long(), credential(request));
            let answer = with_length(coding, &coded(coding, text.as_bytes()));
            let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
            if request.head.method() == "HEAD" { answer[..head].to_vec() } else { answer }
        });
        let lab = Plan::api_key().start(origin).await;
        for method in ["HEAD", "GET"] {
            let answer = lab.ask(&format!("{method} /\r\nX-Guess: a guess")).await;
            if answer.head.status() == 200 {
                assert_eq!(answer.head.one("content-length"), None, "{coding} {method}");
                assert_eq!(answer.head.one("content-encoding"), Some(coding), "{method}");
            } else {
                assert_eq!(answer.head.one("keyward-error"), Some("secret_echoed"), "{coding}");
            }
        }
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_body_with_an_invalid_content_encoding_is_scanned_as_plain_text() {
    for name in ["utf-8", "UTF-8", "aws-chunked", "none", "aws-chunked, utf-8"] {
        let origin = Origin::answering(move |request: &Message| {
            let echo = format!("<{}>", credential(request));
            match request.head.target() {
                "/part" => format!(
                    "HTTP/1.1 206 Part\r\nContent-Encoding: {name}\r\nContent-Range: bytes 0-7/8\r\n\
                     Content-Length: 8\r\n\r\ninnocent"
                )
                .into_bytes(),
                _ => with_length(name, echo.as_bytes()),
            }
        });
        let lab = Plan::api_key().start(origin).await;
        let answer = lab.ask("GET /echo").await;
        assert_eq!(answer.head.status(), 200, "{name}: {}", answer.text());
        assert_eq!(answer.head.one("content-encoding"), Some(name));
        assert_eq!(answer.text(), format!("<{}>", "*".repeat(lab.canary.text.len())), "{name}");
        let answer = lab.ask("GET /part").await;
        assert_eq!((answer.head.status(), &*answer.text()), (206, "innocent"), "{name}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn accept_encoding_is_reduced_to_codings_that_can_be_decoded() {
    let mut lab = Lab::simple().await;
    for (sent, goes) in [
        ("gzip, deflate, br, zstd", "gzip, deflate, br, zstd"),
        ("dcb, gzip;q=0.5, *;q=0.1", "gzip;q=0.5"),
        ("compress", "identity"),
    ] {
        let head =
            lab.delivered(&format!("GET /\r\nAccept-Encoding: {sent}\r\nA-IM: vcdiff")).await;
        assert_eq!(head.one("accept-encoding"), Some(goes));
        assert!(!head.has("a-im"));
    }
    assert!(!lab.delivered("GET /").await.has("accept-encoding"));
    lab.finish().await;
}
