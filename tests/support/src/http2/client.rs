//! An agent that speaks HTTP/2 inside its tunnel.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use tokio::task::JoinHandle;

use super::super::lab::Lab;
use super::super::wire::{Head, Message, Seen, Wire, patiently, until};
use super::origin::send_all;
use super::{answer_head, fields, pairs, request};

/// A tunnel with HTTP/2 in it.
pub struct Client {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    seen: Seen,
    host: String,
}

/// A request in progress.
pub struct Call {
    response: ResponseFuture,
    upload: SendStream<Bytes>,
    seen: Seen,
}

/// A WebSocket on a stream (RFC 8441): both directions as bytes.
pub struct Socket {
    call: Call,
    coming: Coming,
    left: Vec<u8>,
}

/// An answer that comes.
pub struct Coming {
    /// Its head.
    pub head: Head,
    body: RecvStream,
    seen: Seen,
}

impl Lab {
    /// A tunnel of `ci` to `host` in which HTTP/2 was agreed on.
    pub async fn h2(&self, host: &str) -> Client {
        let mut settings = Builder::new();
        // An answer that is not read takes no other's room.
        settings.initial_connection_window_size(64 << 20);
        self.h2_with("ci", host, &settings).await
    }

    /// As [`Lab::h2`], of `agent` and with settings.
    pub async fn h2_with(&self, agent: &str, host: &str, settings: &Builder) -> Client {
        let mut wire = self.client().await;
        let (target, authorization) = (format!("{host}:443"), self.authorization(agent));
        wire.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n"))
            .await;
        let answer = wire.answer("CONNECT").await;
        assert_eq!(answer.head.status(), 200, "{answer:?}");
        self.h2_over(wire, host, settings).await
    }

    /// HTTP/2 in a tunnel that was opened.
    pub async fn h2_over(&self, wire: Wire, host: &str, settings: &Builder) -> Client {
        let (wire, alpn) = self.secure_offering(wire, host, &[b"h2", b"http/1.1"]).await;
        assert_eq!(alpn.as_deref(), Some(&b"h2"[..]));
        let (io, _, seen) = wire.into_parts();
        let shaken = patiently("HTTP/2", settings.handshake(io)).await;
        let (sender, connection) = shaken.expect("HTTP/2");
        let connection = tokio::spawn(connection);
        Client { sender, connection, seen, host: host.to_owned() }
    }
}

impl Client {
    /// One request without a body, and its whole answer.
    pub async fn ask(&self, text: &str) -> Message {
        self.open(text, true).await.answer().await
    }

    /// One request with a body.
    pub async fn post(&self, text: &str, body: &str) -> Message {
        let mut call = self.open(text, false).await;
        call.send(body.as_bytes()).await;
        call.end();
        call.answer().await
    }

    /// Begins a request; `ended` when nothing follows its head.
    pub async fn open(&self, text: &str, ended: bool) -> Call {
        self.open_for(&self.host, text, ended).await
    }

    /// Begins a request for another authority.
    pub async fn open_for(&self, authority: &str, text: &str, ended: bool) -> Call {
        let ready = patiently("room for a stream", self.sender.clone().ready()).await;
        let mut sender = ready.expect("the connection stands");
        let sent = sender.send_request(request(text, authority), ended);
        let (response, upload) = sent.expect("a request");
        Call { response, upload, seen: Arc::clone(&self.seen) }
    }

    /// Begins an extended CONNECT (RFC 8441 §4): `/path` and further lines.
    pub async fn extended(&self, protocol: &'static str, text: &str) -> Call {
        until("SETTINGS_ENABLE_CONNECT_PROTOCOL", async || {
            self.sender.is_extended_connect_protocol_enabled()
        })
        .await;
        let ready = patiently("room for a stream", self.sender.clone().ready()).await;
        let mut sender = ready.expect("the connection stands");
        let mut request = request(&format!("CONNECT {text}"), &self.host);
        request.extensions_mut().insert(Protocol::from_static(protocol));
        let (response, upload) = sender.send_request(request, false).expect("a request");
        Call { response, upload, seen: Arc::clone(&self.seen) }
    }

    /// A WebSocket that is agreed to.
    pub async fn websocket(&self, text: &str) -> Socket {
        let mut call = self.extended("websocket", text).await;
        let coming = call.head().await.expect("an answer");
        assert_eq!(coming.head.status(), 200, "{:?}", coming.head);
        Socket { call, coming, left: vec![] }
    }

    /// How the connection ended, which Keyward ended.
    pub async fn ended(self) -> Result<(), h2::Error> {
        let Self { sender, connection, .. } = self;
        let ended = patiently("the end of the connection", connection).await;
        drop(sender);
        ended.expect("no panic")
    }

    /// Breaks the tunnel off.
    pub fn abort(self) {
        self.connection.abort();
    }
}

impl Call {
    /// Sends a part of the body, as fast as there is room.
    pub async fn send(&mut self, bytes: &[u8]) {
        assert!(self.try_send(bytes).await, "the peer still reads");
    }

    /// As [`Call::send`]; `false` when the peer does not want it.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        send_all(&mut self.upload, bytes).await
    }

    /// How many bytes could be sent now.
    pub fn upload(&mut self) -> &mut SendStream<Bytes> {
        &mut self.upload
    }

    /// Ends the body.
    pub fn end(&mut self) {
        self.upload.send_data(Bytes::new(), true).expect("the stream stands");
    }

    /// Ends the body with trailers.
    pub fn trailers(&mut self, trailers: &[(&str, &str)]) {
        self.upload.send_trailers(fields(trailers.iter().copied())).expect("the stream stands");
    }

    /// Gives the request up.
    pub fn reset(mut self, reason: Reason) {
        self.upload.send_reset(reason);
    }

    /// The head of the answer, interim ones omitted.
    ///
    /// # Errors
    /// With what the stream was reset.
    pub async fn head(&mut self) -> Result<Coming, h2::Error> {
        let answer = patiently("an answer", &mut self.response).await?;
        let (head, seen) = (answer_head(&answer), Arc::clone(&self.seen));
        seen.lock().expect("not poisoned").extend_from_slice(&head.raw);
        Ok(Coming { head, body: answer.into_body(), seen })
    }

    /// Statuses of the interim answers that have come.
    pub async fn interim(&mut self) -> u16 {
        let interim =
            patiently("an interim answer", poll_fn(|cx| self.response.poll_informational(cx)));
        interim.await.expect("one").expect("no error").status().as_u16()
    }

    /// The whole answer.
    ///
    /// # Panics
    /// When it does not come whole.
    pub async fn answer(self) -> Message {
        let (answer, reason) = self.outcome().await;
        assert_eq!(reason, None, "the answer was cut: {answer:?}");
        answer
    }

    /// What came, and with which code it was cut.
    pub async fn outcome(mut self) -> (Message, Option<Reason>) {
        match self.head().await {
            Ok(coming) => coming.rest().await,
            Err(error) => (Message::default(), Some(code(&error))),
        }
    }
}

impl Socket {
    /// The head that agreed to it.
    pub fn head(&self) -> &Head {
        &self.coming.head
    }

    /// Sends all bytes, as fast as there is room.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.call.send(bytes).await;
    }

    /// Sends all bytes and reads as many as `count` meanwhile.
    pub async fn send_and_read(&mut self, bytes: &[u8], count: usize) -> Vec<u8> {
        let Self { call, coming, left } = self;
        let ((), read) = tokio::join!(call.send(bytes), exactly(coming, left, count));
        read
    }

    /// Exactly `count` bytes, or fewer at the end.
    pub async fn exactly(&mut self, count: usize) -> Vec<u8> {
        exactly(&mut self.coming, &mut self.left, count).await
    }

    /// As [`Call::try_send`].
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.call.try_send(bytes).await
    }

    /// Ends our direction.
    pub fn finish(&mut self) {
        self.call.end();
    }

    /// Gives it up.
    pub fn reset(self, reason: Reason) {
        self.call.reset(reason);
    }

    /// Waits until Keyward resets the stream, and with which code.
    pub async fn reset_by_peer(&mut self) -> Reason {
        let reset = patiently("a reset", poll_fn(|cx| self.call.upload().poll_reset(cx))).await;
        reset.expect("the connection stands")
    }

    /// All that comes, and with which code it was cut.
    pub async fn rest(self) -> (Vec<u8>, Option<Reason>) {
        let Self { call, coming, mut left } = self;
        let (message, reason) = coming.rest().await;
        // Kept until here: a direction that is dropped is reset.
        drop(call);
        left.extend(message.body);
        (left, reason)
    }
}

async fn exactly(coming: &mut Coming, left: &mut Vec<u8>, count: usize) -> Vec<u8> {
    while left.len() < count {
        match coming.chunk().await {
            Some(Ok(bytes)) => left.extend(bytes),
            Some(Err(_)) | None => break,
        }
    }
    let count = count.min(left.len());
    left.drain(..count).collect()
}

impl Coming {
    /// The next part of the body, given back to the window; `None` at its end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let chunk = patiently("a chunk", self.body.data()).await?;
        if let Ok(bytes) = &chunk {
            self.seen.lock().expect("not poisoned").extend_from_slice(bytes);
            self.body.flow_control().release_capacity(bytes.len()).expect("it was taken");
        }
        Some(chunk)
    }

    /// All that comes, and with which code it was cut.
    pub async fn rest(mut self) -> (Message, Option<Reason>) {
        let mut message = Message { head: std::mem::take(&mut self.head), ..Message::default() };
        while let Some(chunk) = self.chunk().await {
            match chunk {
                Ok(bytes) => message.body.extend(bytes),
                Err(error) => return (message, Some(code(&error))),
            }
        }
        match patiently("trailers", self.body.trailers()).await {
            Ok(trailers) => message.trailers = trailers.as_ref().map(pairs).unwrap_or_default(),
            Err(error) => return (message, Some(code(&error))),
        }
        message.whole = true;
        (message, None)
    }
}

/// A connection that broke has no code of its own.
fn code(error: &h2::Error) -> Reason {
    error.reason().unwrap_or(Reason::CONNECT_ERROR)
}
