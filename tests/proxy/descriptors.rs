//! A gateway that has no descriptor left: what is open goes on, what comes is turned away, and when
//! there are some again it serves as before.

use tokio::net::TcpStream;

use test_support::install::TOKEN_CI;
use test_support::process::Served;
use test_support::*;

async fn client(served: &Served) -> Wire {
    let connected = TcpStream::connect(served.proxy);
    Wire::plain(patiently("connecting", connected).await.expect("it listens"))
}

async fn ask(wire: &mut Wire) -> Message {
    wire.ask(absolute("GET /", HOST, TOKEN_CI)).await
}

/// The first answer to streams that ask nothing, and the other streams. Any may be the one: a descriptor that the gateway
/// had open for a moment makes room for one more.
async fn one_refused(mut waiting: Vec<Wire>) -> (Message, Vec<Wire>) {
    let answers = waiting.iter_mut().map(|wire| Box::pin(wire.answer("GET")));
    let (turned, at, _) = futures_util::future::select_all(answers).await;
    waiting.swap_remove(at);
    (turned, waiting)
}

#[tokio::test]
async fn without_descriptors_streams_are_refused_and_open_ones_go_on() {
    let origin = Origin::saying("fine");
    let served = Served::start(&Plan::api_key(), &origin, &[]);
    let mut open = client(&served).await;
    assert_eq!(ask(&mut open).await.text(), "fine");
    served.limit_descriptors(served.descriptors() + 8);

    let mut waiting = vec![];
    for _ in 0..40 {
        waiting.push(client(&served).await);
    }
    let (turned, others) = one_refused(waiting).await;
    assert_eq!(turned.refusal(), (503, Some("overloaded")), "{turned:?}");
    assert_eq!(turned.head.one("retry-after"), Some("1"));
    assert_eq!(ask(&mut open).await.text(), "fine", "an open stream goes on");
    let refused = served.output().matches("refused a stream").count();
    assert!((1..=40).contains(&refused), "{refused}");

    drop(others);
    let answer = until_some("descriptors to be given back", async || {
        let answer = ask(&mut client(&served).await).await;
        // It has not seen yet that the others went.
        (answer.head.status() != 503).then_some(answer)
    })
    .await;
    assert_eq!((answer.head.status(), &*answer.text()), (200, "fine"));
}

#[tokio::test]
async fn an_exchange_without_a_descriptor_for_its_upstream_gets_503_with_retry_after() {
    // No stream to it is kept: each exchange needs one of its own.
    let closing = |_: &Message| {
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine".to_owned()
    };
    let origin = Origin::answering(closing);
    let served = Served::start(&Plan::api_key(), &origin, &[]);
    let mut open = client(&served).await;
    assert_eq!(ask(&mut open).await.text(), "fine");
    // A few more than are open now: the stream to the origin may have been closed already, and the
    // exchanges at the end need one again.
    served.limit_descriptors(served.descriptors() + 4);

    let mut waiting = vec![];
    let refused = until_some("the last descriptor to be taken", async || {
        // They take what is left.
        let mut new = vec![];
        for _ in 0..40 {
            new.push(client(&served).await);
        }
        let (turned, others) = one_refused(new).await;
        waiting.extend(others);
        assert_eq!(turned.head.one("keyward-error"), Some("overloaded"));
        let answer = ask(&mut open).await;
        (answer.head.status() != 200).then_some(answer)
    })
    .await;
    assert_eq!(refused.refusal(), (503, Some("overloaded")), "{refused:?}");
    assert_eq!(refused.head.one("retry-after"), Some("1"));
    assert_eq!(refused.json()["error"]["code"], "overloaded");

    drop(waiting);
    until("descriptors to be given back", async || ask(&mut open).await.head.status() == 200).await;
}
