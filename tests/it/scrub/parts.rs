//! Partial answers: a secret is not fetched in pieces.

use super::*;

/// Serves the credential in the middle of a long text, in whatever part was asked for.
async fn ranging() -> Origin {
    Origin::answering(|request: &Message| {
        let text = format!("{}{}{}", "x".repeat(3000), credential(request), "y".repeat(3000));
        let range = request.head.one("range").and_then(|range| range.strip_prefix("bytes="));
        let Some((first, last)) = range.and_then(|range| range.split_once('-')) else {
            return ok(&text);
        };
        let first: usize = first.parse().expect("a number");
        let last = last.parse().unwrap_or(text.len() - 1).min(text.len() - 1);
        let part = &text[first..=last];
        format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{}\r\n\
             Content-Length: {}\r\n\r\n{part}",
            text.len(),
            part.len()
        )
    })
    .await
}

#[tokio::test]
async fn what_is_cut_by_the_edges_of_a_part_is_masked_too() {
    let lab = Plan::api_key().start(ranging().await).await;
    let secret = lab.canary.text.clone();
    let mut wire = lab.tunnel(HOST).await;
    // Both edges wander over the secret, and the whole of it is never asked for at once.
    for cut in 0..=secret.len() {
        for (first, last) in [(1000, 2999 + cut), (3000 + cut, 5000)] {
            wire.send(request_text(&format!("GET /\r\nRange: bytes={first}-{last}"), HOST)).await;
            let answer = wire.answer("GET").await;
            assert_eq!(answer.head.status(), 206);
            assert_eq!(answer.body.len(), last - first + 1);
            let shown = answer.body.iter().filter(|byte| !b"xy*".contains(byte)).count();
            assert!(shown <= 3, "{first}-{last}: {shown} bytes of the secret");
        }
    }
    drop(wire);
    lab.finish().await;
}

#[tokio::test]
async fn parts_without_the_credential_are_as_they_came() {
    let lab = Plan::api_key().start(ranging().await).await;
    for (first, last) in [(0, 2000), (4000, 5999)] {
        let answer = lab.ask(&format!("GET /\r\nRange: bytes={first}-{last}")).await;
        assert_eq!(answer.head.status(), 206);
        let letter = if first == 0 { b'x' } else { b'y' };
        assert_eq!(answer.body, vec![letter; last - first + 1]);
    }
    let records = lab.finish().await;
    assert!(records.iter().all(|record| record["scrubbed"] == 0), "{records:?}");
}

#[tokio::test]
async fn short_and_several_ranges_get_the_whole() {
    let mut lab = Plan::api_key().start(ranging().await).await;
    let length = 6000 + lab.canary.text.len();
    for range in ["bytes=3000-3003", "bytes=0-1022", "bytes=-40", "bytes=0-2999,3001-5000"] {
        let answer = lab.ask(&format!("GET /\r\nRange: {range}\r\nIf-Range: \"e\"")).await;
        assert_eq!((answer.head.status(), answer.body.len()), (200, length), "{range}");
        let head = lab.origin.arrival().await.head;
        assert!(!head.has("range") && !head.has("if-range"), "{range}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_long_range_is_asked_for_uncoded() {
    let mut lab = Plan::api_key().start(ranging().await).await;
    lab.ask("GET /\r\nRange: bytes=100-\r\nAccept-Encoding: gzip").await;
    let head = lab.origin.arrival().await.head;
    assert_eq!(head.one("range"), Some("bytes=100-"));
    assert_eq!(head.one("accept-encoding"), Some("identity"));
    lab.finish().await;
}
