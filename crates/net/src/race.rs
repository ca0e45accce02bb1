//! Connects to one of several checked addresses with Happy Eyeballs (RFC 8305); the first stream wins. Only
//! this file opens outbound TCP streams, and it accepts only [`CheckedAddr`] addresses.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

use super::guard::CheckedAddr;
use crate::wire;

/// RFC 8305 §5, "Connection Attempt Delay": the time before the next attempt starts.
const STAGGER: Duration = Duration::from_millis(250);

/// A connected, checked stream.
#[derive(Debug)]
pub(super) struct RaceWinner {
    /// The stream, with `TCP_NODELAY` and keepalive.
    pub(super) stream: TcpStream,
    /// Whether its address is on the explicit private list.
    pub(super) private: bool,
}

/// Alternates the address families, starting with the first address's (RFC 8305 §4).
pub(super) fn interleave(addresses: Vec<CheckedAddr>) -> Vec<CheckedAddr> {
    let Some(first) = addresses.first().map(|checked| checked.addr().is_ipv6()) else {
        return addresses;
    };
    let (leading, others): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|checked| checked.addr().is_ipv6() == first);
    let mut queues = [leading, others];
    let mut ordered = Vec::with_capacity(queues[0].len() + queues[1].len());
    while queues.iter().any(|queue| !queue.is_empty()) {
        ordered.extend(queues.iter_mut().filter_map(VecDeque::pop_front));
    }
    ordered
}

/// Starts attempts [`STAGGER`] apart, or as soon as one fails (RFC 8305 §5). The first stream wins; the others
/// are dropped, which closes them.
pub(super) async fn race(candidates: Vec<CheckedAddr>) -> io::Result<RaceWinner> {
    let mut waiting = VecDeque::from(candidates);
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(next) = waiting.pop_front() {
            attempts.push(connect(next));
        }
        tokio::select! {
            ended = attempts.next() => match ended {
                Some(Ok(dialled)) => return Ok(dialled),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            },
            () = tokio::time::sleep(STAGGER), if !waiting.is_empty() => {}
        }
    }
}

async fn connect(checked: CheckedAddr) -> io::Result<RaceWinner> {
    let stream = TcpStream::connect(checked.addr()).await?;
    stream.set_nodelay(true)?;
    wire::enable(&stream)?;
    Ok(RaceWinner { stream, private: checked.private() })
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::{SocketAddr, TcpListener};

    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::guard::{AllowPrivate, Guard};

    const LONG: Duration = Duration::from_secs(60);

    impl RaceWinner {
        fn at(&self) -> SocketAddr {
            self.stream.peer_addr().expect("connected")
        }
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    fn checked(addresses: &[SocketAddr]) -> Vec<CheckedAddr> {
        let allow = AllowPrivate::parse("127.0.0.0/8:*").expect("network");
        let guard = Guard::new(vec![allow], vec![]);
        addresses.iter().map(|at| guard.check(*at).expect("allowed")).collect()
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let addr = listener.local_addr().expect("address");
        (listener, addr)
    }

    /// An address that refuses connections.
    fn closed() -> SocketAddr {
        listener().1
    }

    /// A listener whose backlog is full, with the sockets that fill it.
    pub(crate) fn full_listener() -> (SocketAddr, Vec<Socket>) {
        let stream = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        let listener = stream();
        listener.bind(&addr("127.0.0.1:0").into()).expect("bind");
        listener.listen(0).expect("listen");
        let at = listener.local_addr().ok().and_then(|at| at.as_socket()).expect("address");
        let mut held = vec![listener];
        for _ in 0..4 {
            let filler = stream();
            filler.set_nonblocking(true).expect("nonblocking");
            // Would block; the attempt stays in the queue as long as the socket is open.
            let _ = filler.connect(&at.into());
            held.push(filler);
        }
        (at, held)
    }

    #[tokio::test]
    async fn when_all_fail_the_last_failure_is_reported() {
        let failure = race(checked(&[closed(), closed()])).await.expect_err("closed");
        assert_eq!(failure.kind(), io::ErrorKind::ConnectionRefused);
        assert!(race(Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn a_dead_first_address_does_not_stop_the_race() {
        let (_listener, live) = listener();
        let candidates = checked(&[closed(), closed(), live]);
        assert_eq!(race(candidates).await.expect("connected").at(), live);
    }

    #[tokio::test]
    async fn a_silent_first_address_is_overtaken() {
        // A listener that never accepts: connecting hangs, as with a black hole.
        let (full, _held) = full_listener();
        let (_listener, live) = listener();
        let dialled = tokio::time::timeout(LONG, race(checked(&[full, live]))).await;
        assert_eq!(dialled.expect("in time").expect("connected").at(), live);
    }

    #[test]
    fn address_families_alternate_from_that_of_the_first_address() {
        let order = |texts: &[&str]| {
            let addresses: Vec<_> = texts.iter().map(|text| addr(text)).collect();
            let ordered = interleave(checked(&addresses));
            ordered.iter().map(|checked| checked.addr().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            order(&["[2a00::1]:1", "[2a00::2]:1", "[2a00::3]:1", "8.8.8.8:1", "8.8.4.4:1"]),
            ["[2a00::1]:1", "8.8.8.8:1", "[2a00::2]:1", "8.8.4.4:1", "[2a00::3]:1"]
        );
        assert_eq!(
            order(&["8.8.8.8:1", "8.8.4.4:1", "[2a00::1]:1"]),
            ["8.8.8.8:1", "[2a00::1]:1", "8.8.4.4:1"]
        );
        assert!(interleave(Vec::new()).is_empty());
    }
}
