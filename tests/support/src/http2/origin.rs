//! An API that speaks HTTP/2, HTTP/1.1, or the client's choice.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Response, StatusCode};
use rustls::ServerConfig;
use tokio::sync::mpsc;

use super::super::origin::{NAMES, Notes, Origin, RunningScript, Script, Stream};
use super::super::pki::pki;
use super::super::wire::{Head, Message, patiently};
use super::{fields, pairs, request_head};

/// What an origin offers by ALPN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Offer {
    /// HTTP/2 and nothing else.
    Http2,
    /// HTTP/1.1 and nothing else.
    Http1,
    /// Both, HTTP/2 preferred.
    Both,
}

/// A whole answer, in either protocol.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub fields: Vec<(&'static str, &'static str)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(&'static str, &'static str)>,
}

/// What a script may do with the connection.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// GOAWAY; what is in progress goes on.
    GoAway,
    /// GOAWAY with a code, and the end.
    Fail(Reason),
    /// A TCP reset.
    Break,
}

/// One request at an origin that speaks HTTP/2.
pub struct Ask {
    /// Its head.
    pub head: Head,
    /// On which accepted stream it came, from 0.
    pub connection: usize,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    notes: Notes,
    orders: mpsc::UnboundedSender<Order>,
}

type AskScript = Arc<dyn Fn(Ask) -> RunningScript + Send + Sync>;

/// An answer whose head has been sent.
pub struct Sending(SendStream<Bytes>);

impl Offer {
    fn tls(self) -> Arc<ServerConfig> {
        let mut tls = ServerConfig::clone(&pki().server(NAMES));
        let both: [&[u8]; 2] = [b"h2", b"http/1.1"];
        let offered = match self {
            Self::Http2 => &both[..1],
            Self::Http1 => &both[1..],
            Self::Both => &both,
        };
        tls.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        Arc::new(tls)
    }
}

impl Reply {
    /// A 200.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, fields: vec![], body: body.into(), trailers: vec![] }
    }

    fn http1(&self) -> Vec<u8> {
        let line = |(name, value): &(&str, &str)| format!("{name}: {value}\r\n");
        let fields: String = self.fields.iter().map(line).collect();
        let head = format!("HTTP/1.1 {} OK\r\n{fields}", self.status);
        let length = self.body.len();
        if self.trailers.is_empty() {
            let head = format!("{head}Content-Length: {length}\r\n\r\n");
            return [head.as_bytes(), &self.body].concat();
        }
        let names: Vec<&str> = self.trailers.iter().map(|(name, _)| *name).collect();
        let announced = format!("Trailer: {}\r\nTransfer-Encoding: chunked", names.join(", "));
        let trailers: String = self.trailers.iter().map(line).collect();
        let head = format!("{head}{announced}\r\n\r\n{length:x}\r\n");
        [head.as_bytes(), &self.body, format!("\r\n0\r\n{trailers}\r\n").as_bytes()].concat()
    }
}

impl Origin {
    /// Answers every request with what `answer` makes of it.
    pub fn speaking<F>(offer: Offer, answer: F) -> Self
    where
        F: Fn(&Message) -> Reply + Clone + Send + Sync + 'static,
    {
        let plain = answer.clone();
        let http1 = move |mut stream: Stream| {
            let answer = plain.clone();
            async move {
                while let Some(request) = stream.request().await {
                    if stream.try_send(answer(&request).http1()).await.is_err() {
                        return;
                    }
                }
            }
        };
        let http2 = move |mut ask: Ask| {
            let answer = answer.clone();
            async move {
                let request = ask.whole().await;
                ask.reply(&answer(&request)).await;
            }
        };
        Self::either(offer, http1, http2)
    }

    /// Runs `script` for each request; HTTP/2 only.
    pub fn multiplexed<F, Fut>(script: F) -> Self
    where
        F: Fn(Ask) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let nobody = |_: Stream| async { panic!("HTTP/1.1 was not offered") };
        Self::either(Offer::Http2, nobody, script)
    }

    /// Runs `http1` for each stream on which HTTP/1.1 is spoken, `http2` for each request on others.
    pub fn either<F1, Fut1, F2, Fut2>(offer: Offer, http1: F1, http2: F2) -> Self
    where
        F1: Fn(Stream) -> Fut1 + Send + Sync + 'static,
        Fut1: Future<Output = ()> + Send + 'static,
        F2: Fn(Ask) -> Fut2 + Send + Sync + 'static,
        Fut2: Future<Output = ()> + Send + 'static,
    {
        let http1: Script = Arc::new(move |stream| Box::pin(http1(stream)));
        let http2: AskScript = Arc::new(move |ask| Box::pin(http2(ask)));
        Self::chosen(offer, http1, http2)
    }

    /// Not generic: it is compiled once, and not for each script.
    fn chosen(offer: Offer, http1: Script, http2: AskScript) -> Self {
        Self::with_tls(Some(offer.tls()), move |stream| {
            let (http1, http2) = (Arc::clone(&http1), Arc::clone(&http2));
            async move {
                match stream.alpn.as_deref() {
                    Some(b"h2") => serve(stream, http2).await,
                    _ => http1(stream).await,
                }
            }
        })
    }

    /// Runs `script` for each stream on which HTTP/2 was agreed; it writes the frames.
    pub fn framed<F, Fut>(script: F) -> Self
    where
        F: Fn(Stream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::with_tls(Some(Offer::Http2.tls()), script)
    }
}

async fn serve(stream: Stream, script: AskScript) {
    let (notes, number) = (stream.notes(), stream.number);
    let (io, socket, _) = stream.into_wire().into_parts();
    let mut settings = Builder::new();
    // A request that is not read takes no other's room.
    settings.max_concurrent_streams(1_000).initial_connection_window_size(64 << 20);
    let Ok(mut connection) = settings.handshake::<_, Bytes>(io).await else { return };
    let (orders, mut ordered) = mpsc::unbounded_channel();
    loop {
        let order = tokio::select! {
            asked = connection.accept() => {
                let Some(Ok((request, respond))) = asked else { return };
                let head = request_head(&request);
                notes.read(&head.raw);
                let (notes, orders, watching) = (notes.clone(), orders.clone(), notes.clone());
                let body = request.into_body();
                let ask = Ask { head, connection: number, body, respond, notes, orders };
                tokio::spawn(watching.run(script(ask)));
                continue;
            }
            order = ordered.recv() => order.expect("we hold a sender"),
        };
        match order {
            Order::GoAway => connection.graceful_shutdown(),
            Order::Fail(reason) => connection.abrupt_shutdown(reason),
            Order::Break => {
                let socket = socket.as_ref().expect("over TCP");
                socket.set_linger(Some(Duration::ZERO)).expect("linger can be set");
                return;
            }
        }
    }
}

impl Ask {
    /// Reads the whole request and adds it to the origin's list.
    pub async fn whole(&mut self) -> Message {
        let mut message = Message { head: self.head.clone(), whole: true, ..Message::default() };
        while let Some(chunk) = self.chunk().await {
            match chunk {
                Ok(bytes) => message.body.extend(bytes),
                Err(_) => {
                    message.whole = false;
                    break;
                }
            }
        }
        if message.whole {
            match self.body.trailers().await {
                Ok(trailers) => message.trailers = trailers.as_ref().map(pairs).unwrap_or_default(),
                Err(_) => message.whole = false,
            }
        }
        self.notes.note(message.clone());
        message
    }

    /// The next part of the body; `None` at its end. After an error nothing comes.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let chunk = patiently("a part of the request", self.body.data()).await?;
        if let Ok(bytes) = &chunk {
            self.notes.read(bytes);
            self.body.flow_control().release_capacity(bytes.len()).expect("it was taken");
        }
        Some(chunk)
    }

    /// Answers with all of `reply`.
    pub async fn reply(&mut self, reply: &Reply) {
        let ended = reply.body.is_empty() && reply.trailers.is_empty();
        let names: Vec<&str> = reply.trailers.iter().map(|(name, _)| *name).collect();
        let (announced, mut fields) = (names.join(", "), reply.fields.clone());
        if !names.is_empty() {
            // HTTP/1.1 carries what is announced.
            fields.push(("trailer", &announced));
        }
        let Some(mut sending) = self.begin(reply.status, &fields, ended) else { return };
        if !sending.send(&reply.body).await || ended {
            return;
        }
        match reply.trailers.is_empty() {
            true => sending.end(),
            false => sending.trailers(&reply.trailers),
        }
    }

    /// Sends the head of an answer; `None` when nobody waits for it any more.
    pub fn begin(&mut self, status: u16, others: &[(&str, &str)], ended: bool) -> Option<Sending> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        *response.headers_mut() = fields(others.iter().copied());
        self.respond.send_response(response, ended).ok().map(Sending)
    }

    /// Sends an interim answer.
    pub fn interim(&mut self, status: u16, others: &[(&str, &str)]) {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        *response.headers_mut() = fields(others.iter().copied());
        self.respond.send_informational(response).expect("no answer yet");
    }

    /// Does not answer.
    pub fn reset(mut self, reason: Reason) {
        self.respond.send_reset(reason);
    }

    /// Waits until the client resets the stream.
    pub async fn given_up(&mut self) -> Reason {
        let reset = patiently("a reset", poll_fn(|cx| self.respond.poll_reset(cx))).await;
        reset.unwrap_or(Reason::CONNECT_ERROR)
    }

    /// Tells the connection's owner to do something.
    pub fn order(&self, order: Order) {
        // The connection may have ended.
        let _ = self.orders.send(order);
    }
}

impl Sending {
    /// Sends a part, as fast as there is room; `false` when it is not wanted.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        send_all(&mut self.0, bytes).await
    }

    /// Ends the body.
    pub fn end(&mut self) {
        // The client may have gone.
        drop(self.0.send_data(Bytes::new(), true));
    }

    /// Ends the body with trailers.
    pub fn trailers(&mut self, trailers: &[(&str, &str)]) {
        drop(self.0.send_trailers(fields(trailers.iter().copied())));
    }

    /// Breaks the answer off.
    pub fn reset(mut self, reason: Reason) {
        self.0.send_reset(reason);
    }

    /// Waits until the client resets the stream.
    pub async fn given_up(&mut self) -> Reason {
        let reset = patiently("a reset", poll_fn(|cx| self.0.poll_reset(cx))).await;
        reset.unwrap_or(Reason::CONNECT_ERROR)
    }
}

/// Sends all bytes, as fast as there is room; `false` when they are not wanted.
pub(super) async fn send_all(stream: &mut SendStream<Bytes>, bytes: &[u8]) -> bool {
    let mut rest = Bytes::copy_from_slice(bytes);
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        let room = match stream.capacity() {
            0 => poll_fn(|cx| stream.poll_capacity(cx)).await,
            room => Some(Ok(room)),
        };
        let Some(Ok(room)) = room else { return false };
        if room == 0 {
            continue;
        }
        let part = rest.split_to(room.min(rest.len()));
        if stream.send_data(part, false).is_err() {
            return false;
        }
    }
    true
}
