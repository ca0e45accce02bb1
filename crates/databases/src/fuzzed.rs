//! Random test inputs in place of the first messages of a client or a server: valid messages that were cut, joined,
//! repeated and changed, and bytes of no protocol.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// Simulated: nothing waits for a peer that has ended its stream.
const ENDS_WITHIN: Duration = Duration::from_secs(600);
const CASES: u32 = 400;

#[derive(Clone, Debug)]
enum MessageChange {
    /// Another byte.
    Byte(Index, u8),
    /// Only what comes before.
    Cut(Index),
    /// Bytes in between.
    Insert(Index, Vec<u8>),
    /// A part twice.
    Repeat(Index, Index),
    /// Another message behind it.
    Then(Index),
}

impl MessageChange {
    fn apply(self, bytes: &mut Vec<u8>, messages: &[Vec<u8>]) {
        let at = |index: Index, bytes: &[u8]| index.index(bytes.len() + 1);
        match self {
            Self::Byte(index, byte) => {
                let at = at(index, bytes);
                if let Some(old) = bytes.get_mut(at) {
                    *old = byte;
                }
            }
            Self::Cut(index) => bytes.truncate(at(index, bytes)),
            Self::Insert(index, new) => {
                let at = at(index, bytes);
                bytes.splice(at..at, new);
            }
            Self::Repeat(one, other) => {
                let (one, other) = (at(one, bytes), at(other, bytes));
                let part = bytes[one.min(other)..one.max(other)].to_vec();
                bytes.splice(one..one, part);
            }
            Self::Then(index) => bytes.extend_from_slice(index.get::<Vec<u8>>(messages)),
        }
    }
}

fn change() -> impl Strategy<Value = MessageChange> {
    let at = any::<Index>;
    // Those that are usual in lengths and tags.
    let byte =
        prop_oneof![any::<u8>(), prop::sample::select(vec![0, 1, 4, 0x7f, 0x80, 0xfe, 0xff])];
    prop_oneof![
        4 => (at(), byte).prop_map(|(at, byte)| MessageChange::Byte(at, byte)),
        1 => at().prop_map(MessageChange::Cut),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, new)| MessageChange::Insert(at, new)),
        1 => (at(), at()).prop_map(|(one, other)| MessageChange::Repeat(one, other)),
        2 => at().prop_map(MessageChange::Then),
    ]
}

fn any_of(messages: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changed = (any::<Index>(), prop::collection::vec(change(), 0..6)).prop_map(
        move |(first, changes)| {
            let mut bytes = first.get(&messages).clone();
            changes.into_iter().for_each(|change| change.apply(&mut bytes, &messages));
            bytes
        },
    );
    prop_oneof![4 => changed, 1 => prop::collection::vec(any::<u8>(), 0..300)]
}

/// Runs `work` with what a peer may send in place of these messages. It must end, and not panic.
pub fn with_all_of<F: Future<Output = ()>>(messages: Vec<Vec<u8>>, work: impl Fn(Vec<u8>) -> F) {
    let mut runner = TestRunner::new(Config { cases: CASES, ..Config::default() });
    let run = runner.run(&any_of(messages), |bytes| {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().expect("a runtime");
        let has_ended = runtime.block_on(async {
            let ended = tokio::time::timeout(ENDS_WITHIN, work(bytes)).await;
            ended.is_ok()
        });
        prop_assert!(has_ended, "it waits for a peer that has ended its stream");
        Ok(())
    });
    run.expect("all cases end");
}

/// A stream whose peer sends these bytes and then no more; and the peer.
pub async fn peer_of(bytes: &[u8]) -> (DuplexStream, DuplexStream) {
    let (stream, mut peer) = duplex(1 << 20);
    peer.write_all(bytes).await.expect("it has room");
    peer.shutdown().await.expect("it is open");
    (stream, peer)
}

/// What the peer was sent.
pub async fn got(stream: DuplexStream, mut peer: DuplexStream) -> Vec<u8> {
    drop(stream);
    let mut all = Vec::new();
    peer.read_to_end(&mut all).await.expect("it ends");
    all
}

pub fn has(bytes: &[u8], text: &str) -> bool {
    has_bytes(bytes, text.as_bytes())
}

/// Whether bytes have these in a row.
pub fn has_bytes(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|some| some == part)
}
