//! Tests that floods of each kind are detected, in pieces of any size, and that normal clients are not.

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::advance;

use super::*;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
    frame.extend(payload);
    frame
}

fn begun() -> FrameMeter {
    let mut meter = FrameMeter::new(FloodPeer::Agent);
    meter.read(PREFACE).expect("a preface");
    meter.read(&frame(SETTINGS, 0, &[0; 36])).expect("settings");
    meter
}

/// How many of `frames` come before the flood is found, of 100,000 at most.
fn until_flood(meter: &mut FrameMeter, frames: &[Vec<u8>]) -> Option<(usize, Flood)> {
    (0..100_000).find_map(|at| {
        let result = meter.read(&frames[at % frames.len()]);
        result.err().map(|flood| (at, flood))
    })
}

#[tokio::test(start_paused = true)]
async fn every_flood_is_found_and_named() {
    let empty_block = frame(HEADERS, 0, &[]);
    let table: [(&str, Vec<Vec<u8>>); 9] = [
        ("RST_STREAM", vec![empty_block.clone(), frame(RST_STREAM, 0, &[0, 0, 0, 8])]),
        ("PING", vec![frame(PING, 0, &[0; 8])]),
        ("PING", vec![frame(PING, 1, &[0; 8])]),
        ("SETTINGS", vec![frame(SETTINGS, 0, &[])]),
        ("PRIORITY", vec![frame(PRIORITY, 0, &[0; 5])]),
        ("WINDOW_UPDATE", vec![frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1])]),
        ("an empty DATA", vec![frame(DATA, 0, &[])]),
        ("CONTINUATION", vec![frame(CONTINUATION, 0, &[0; 16])]),
        ("another type", vec![frame(0xbe, 0, &[0; 16])]),
    ];
    for (name, frames) in table {
        let (after, flood) = until_flood(&mut begun(), &frames).expect(name);
        assert!(after <= 2 * BURST as usize + 1, "{name}: {after}");
        let error = io::Error::from(flood);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_block_with_too_many_continuation_frames_is_a_flood() {
    let mut meter = begun();
    for _ in 0..3 {
        meter.read(&frame(HEADERS, 0, &[0; 100])).expect("a head");
        for _ in 0..CONTINUATIONS_MAX {
            meter.read(&frame(CONTINUATION, 0, &[0; 100])).expect("within the bound");
        }
    }
    let flood = meter.read(&frame(CONTINUATION, 0, &[0; 100]));
    assert_eq!(flood, Err(Flood::Continuations));
}

#[tokio::test(start_paused = true)]
async fn the_allowance_for_resets_grows_with_time_and_with_answers() {
    let reset = frame(RST_STREAM, 0, &[0, 0, 0, 8]);
    let used_up = || {
        let mut meter = begun();
        meter.read(&reset.repeat(1_000)).expect("a burst");
        meter
    };
    let more = |mut meter| until_flood(&mut meter, std::slice::from_ref(&reset));
    assert_eq!(more(used_up()), Some((0, Flood::Resets)));
    let (rested, mut answered) = (used_up(), used_up());
    advance(Duration::from_millis(500)).await;
    assert_eq!(more(rested), Some((50, Flood::Resets)));
    answered.wrote(&frame(DATA, 0, b"an event").repeat(7));
    assert_eq!(more(answered), Some((57, Flood::Resets)));
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_of_a_ping_flood_do_not_allow_more_pings() {
    let mut meter = begun();
    let found = (0..10_000).any(|_| {
        meter.wrote(&frame(PING, 1, &[0; 8]));
        meter.wrote(&frame(SETTINGS, 1, &[]));
        meter.wrote(&frame(DATA, END_STREAM, &[]));
        meter.read(&frame(PING, 0, &[0; 8])).is_err()
    });
    assert!(found);
}

#[tokio::test(start_paused = true)]
async fn normal_traffic_of_clients_is_not_a_flood() {
    let mut meter = begun();
    let acknowledged = frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1]);
    for _ in 0..20_000 {
        // A call that streams a small message each way. The client measures its bandwidth with a
        // PING for each, and acknowledges the message on the stream and on the connection.
        meter.read(&frame(HEADERS, 0, &[0; 60])).expect("a call");
        meter.read(&frame(DATA, 0, &[0; 20])).expect("a message");
        meter.wrote(&frame(HEADERS, 0, &[0; 60]));
        meter.wrote(&frame(DATA, 0, &[0; 20]));
        for _ in 0..2 {
            meter.read(&acknowledged).expect("an acknowledgement");
        }
        meter.read(&frame(PING, 0, &[0; 8])).expect("a probe");
        meter.read(&frame(DATA, END_STREAM, &[])).expect("the end");
    }
    // Go acknowledges every 4 KiB of a long frame, on the stream and on the connection.
    for _ in 0..20_000 {
        meter.wrote(&frame(DATA, 0, &[0; 64 * 1024]));
        for _ in 0..32 {
            meter.read(&acknowledged).expect("an acknowledgement");
        }
    }
    // A client gives up a stream of events and asks again, as fast as it can.
    for _ in 0..20_000 {
        meter.read(&frame(HEADERS, 1, &[0; 60])).expect("a request");
        meter.wrote(&frame(DATA, 0, &[0; 20]));
        meter.read(&frame(RST_STREAM, 0, &[0, 0, 0, 8])).expect("it has seen enough");
    }
}

fn begun_to_upstream() -> FrameMeter {
    let mut meter = FrameMeter::new(FloodPeer::Upstream);
    meter.wrote(PREFACE);
    meter
}

#[tokio::test(start_paused = true)]
async fn an_upstream_may_answer_each_request_and_no_more() {
    let (head, reset) = (frame(HEADERS, 0, &[0; 60]), frame(RST_STREAM, 0, &[0, 0, 0, 8]));
    let (after, flood) =
        until_flood(&mut begun_to_upstream(), std::slice::from_ref(&head)).expect("it ends");
    assert_eq!((after, flood), (BURST as usize, Flood::Idle("HEADERS")));
    let (after, flood) =
        until_flood(&mut begun_to_upstream(), std::slice::from_ref(&reset)).expect("it ends");
    assert_eq!((after, flood), (BURST as usize, Flood::Resets));
    let mut meter = begun_to_upstream();
    for _ in 0..20_000 {
        meter.wrote(&head);
        meter.wrote(&frame(DATA, 0, &[0; 20]));
        // Interim answers, the head and the trailers; what gRPC sends for each message; a reset of what is left.
        meter.read(&head.repeat(18)).expect("an answer");
        meter.read(&frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1]).repeat(2)).expect("acknowledgements");
        meter.read(&frame(PING, 0, &[0; 8])).expect("a probe");
        meter.read(&reset).expect("it wants no more of the request");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_may_ping_for_ever() {
    let mut meter = begun();
    for _ in 0..100_000 {
        meter.read(&frame(PING, 0, &[0; 8])).expect("a ping now and then");
        advance(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_flood_is_a_read_error_and_writes_pass() {
    let (agent, ours) = tokio::io::duplex(1 << 20);
    let (mut agent, mut metered) = (agent, FloodLimited::new(FloodPeer::Agent, ours));
    agent.write_all(PREFACE).await.expect("it fits");
    agent.write_all(&frame(PING, 0, &[0; 8]).repeat(1_500)).await.expect("it fits");
    metered.write_all(b"answers").await.expect("it fits");
    let mut answers = [0; 7];
    agent.read_exact(&mut answers).await.expect("they came");
    drop(agent);
    let error = metered.read_to_end(&mut vec![]).await.expect_err("a flood");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(&answers, b"answers");
}

fn frames() -> impl Strategy<Value = Vec<(u8, u8, usize)>> {
    let kind = prop_oneof![Just(RST_STREAM), Just(PING), Just(GOAWAY), 0..12_u8];
    proptest::collection::vec((kind, 0..2_u8, 0..40_usize), 0..3_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Cutting the bytes anywhere finds the same heads, and the same flood in the same frame.
    #[test]
    fn splitting_the_bytes_does_not_change_which_flood_is_found(frames in frames(), cuts in proptest::collection::vec(1..50_usize, 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().expect("a runtime");
        let _inside = runtime.enter();
        let mut bytes = PREFACE.to_vec();
        for (kind, flags, length) in &frames {
            bytes.extend(frame(*kind, *flags, &vec![0xff; *length]));
        }
        let mut found = FrameParser::after(PREFACE_BYTES);
        let mut heads = vec![];
        let mut whole = &bytes[..];
        while let Some(head) = found.next(&mut whole) {
            heads.push((head.kind, head.flags, head.length as usize));
        }
        prop_assert_eq!(&heads, &frames);
        let at_once = FrameMeter::new(FloodPeer::Agent).read(&bytes);
        let mut meter = FrameMeter::new(FloodPeer::Agent);
        let (mut rest, mut in_pieces) = (&bytes[..], Ok(()));
        for cut in cuts.iter().cycle() {
            if rest.is_empty() || in_pieces.is_err() {
                break;
            }
            let (piece, more) = rest.split_at(rest.len().min(*cut));
            in_pieces = meter.read(piece);
            rest = more;
        }
        prop_assert_eq!(at_once, in_pieces);
    }
}
