//! What one agent can make the gateway hold by many exchanges over HTTP/2 of which nothing is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use h2::client::Builder;

use test_support::http2::{Ask, Call, Client, Reply};
use test_support::*;

/// As much as one frame holds.
const PIECE: usize = 16 * 1024;

/// The windows of an agent's first exchanges, and of further ones.
const LARGE: usize = 512 * 1024;
const SMALL: usize = 64 * 1024;

/// The bytes that the origin could send.
#[derive(Default)]
struct Sent {
    to_ci: AtomicUsize,
    to_other: AtomicUsize,
}

/// Answers without end at `/ci` and `/other`, and does not read what is sent to `/stuck`.
fn origin(sent: &Arc<Sent>) -> Origin {
    let sent = Arc::clone(sent);
    Origin::multiplexed(move |mut ask: Ask| {
        let sent = Arc::clone(&sent);
        async move {
            let count = match ask.head.target() {
                "/ci" => &sent.to_ci,
                "/other" => &sent.to_other,
                "/stuck" => {
                    let _ = ask.given_up().await;
                    return;
                }
                _ => {
                    ask.whole().await;
                    return ask.reply(&Reply::ok(vec![b'.'; 3 * SMALL])).await;
                }
            };
            let mut sending = ask.begin(200, &[], false).expect("asked");
            while sending.send(&[b'.'; PIECE]).await {
                count.fetch_add(PIECE, SeqCst);
            }
        }
    })
}

/// Tells on which of its streams it was asked, and does not end the answer.
fn numbering_origin() -> Origin {
    Origin::multiplexed(|mut ask: Ask| async move {
        let number = ask.connection.to_string();
        let mut sending = ask.begin(200, &[("x-stream", number.as_str())], false).expect("asked");
        sending.given_up().await;
    })
}

/// An exchange that runs until it is dropped, and the number of its stream at the origin.
async fn running(client: &Client) -> (Call, String) {
    let mut call = client.open("GET /", true).await;
    let coming = call.head().await.expect("an answer");
    let number = coming.head.one("x-stream").expect("its number").to_owned();
    (call, number)
}

/// Gives what is under way the time to arrive.
async fn ask_others(client: &Client) {
    for _ in 0..20 {
        let answer = client.post("POST /plain", &".".repeat(3 * PIECE)).await;
        assert_eq!(answer.body.len(), 3 * SMALL);
    }
}

#[tokio::test]
async fn unread_answers_beyond_large_windows_per_agent_max_get_a_small_window() {
    const COUNT: usize = 12;
    let sent = Arc::new(Sent::default());
    // Two of them are the tunnel's.
    let plan = Plan::api_key().agent("other", "acme").limit("large_windows_per_agent_max: 4");
    let lab = plan.start(origin(&sent)).await;
    let mut unread = Builder::new();
    unread.initial_window_size(0);
    let (ci, other) =
        (lab.h2_with("ci", HOST, &unread).await, lab.h2_with("other", HOST, &unread).await);
    let mut calls = vec![];
    for _ in 0..COUNT {
        calls.push(ci.open("GET /ci", true).await);
    }
    let windows = 2 * LARGE + (COUNT - 2) * SMALL;
    until("full windows", async || sent.to_ci.load(SeqCst) >= windows).await;
    calls.push(other.open("GET /other", true).await);
    until("a large window", async || sent.to_other.load(SeqCst) >= LARGE).await;
    let reader = lab.h2_with("other", HOST, &Builder::new()).await;
    ask_others(&reader).await;
    // Of each, one or two frames were taken from the window.
    let held = sent.to_ci.load(SeqCst);
    assert!(held <= windows + COUNT * SMALL, "{held} bytes, and the windows are {windows}");
    drop(calls);
    lab.finish().await;
}

#[tokio::test]
async fn exchanges_share_an_upstream_stream_only_with_those_of_the_same_window_size() {
    // Two of them are the tunnel's.
    let plan = Plan::api_key().limit("large_windows_per_agent_max: 4");
    let lab = plan.start(numbering_origin()).await;
    let client = lab.h2(HOST).await;
    let (first, large) = running(&client).await;
    let (second, number) = running(&client).await;
    assert_eq!(number, large);
    let (third, small) = running(&client).await;
    assert_ne!(small, large);
    let (fourth, number) = running(&client).await;
    assert_eq!(number, small);
    drop((second, third, fourth));
    until("a large window again", async || running(&client).await.1 == large).await;
    assert_eq!(lab.origin.streams(), 2);
    drop(first);
    lab.finish().await;
}

#[tokio::test]
async fn unread_uploads_on_further_streams_of_an_agent_get_a_small_window() {
    // The windows of one tunnel are those of 16 exchanges.
    let plan = Plan::api_key().limit("large_windows_per_agent_max: 16");
    let lab = plan.start(origin(&Arc::default())).await;
    let (first, second) = (lab.h2(HOST).await, lab.h2(HOST).await);
    let mut large = first.open("POST /stuck", false).await;
    for _ in 0..LARGE / PIECE {
        assert!(patiently("room in a large window", large.try_send(&[b'.'; PIECE])).await);
    }
    let (mut small, mut held) = (second.open("POST /stuck", false).await, 0);
    let upload = async {
        while small.try_send(&[b'.'; PIECE]).await {
            held += PIECE;
        }
    };
    tokio::select! {
        () = upload => panic!("it ended"),
        () = ask_others(&second) => {}
    }
    // The window of the upstream, that of the agent, and frames on their way.
    assert!((SMALL..4 * SMALL).contains(&held), "{held} bytes");
    drop((large, small));
    lab.finish().await;
}
