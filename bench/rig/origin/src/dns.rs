//! DNS (RFC 1035) for one zone: A 127.0.0.1 for `bench.test` and all below, no other records.

use tokio::net::UdpSocket;

/// Before the question: id, flags, four counts.
const HEADER_BYTES: usize = 12;

/// The name of the question (a pointer to it), A, IN, 60 s, four bytes: 127.0.0.1.
const ANSWER: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1];

pub async fn answer(socket: UdpSocket) {
    let mut packet = [0u8; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut packet).await {
        if let Some(answer) = answered(&packet[..length]) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

fn answered(query: &[u8]) -> Option<Vec<u8>> {
    let (mut at, mut name) = (HEADER_BYTES, Vec::new());
    while *query.get(at)? != 0 {
        let end = at + 1 + usize::from(query[at]);
        name.extend(query.get(at + 1..end)?.to_ascii_lowercase());
        name.push(b'.');
        at = end;
    }
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    let is_ours = name.ends_with(b"bench.test.");
    let mut answer = query.get(..at + 5)?.to_vec();
    // An authoritative answer; no such name where it is not ours.
    answer[2] = 0x85;
    answer[3] = if is_ours { 0x80 } else { 0x83 };
    answer[6..HEADER_BYTES].fill(0);
    if is_ours && kind == 1 {
        answer[7] = 1;
        answer.extend(ANSWER);
    }
    Some(answer)
}
