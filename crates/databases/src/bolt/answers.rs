//! Answers of the server on their way to the agent, each to a message that was passed on, and Keyward's own between
//! them. [`AwaitedAnswers`] are the messages that wait for one. [`AnswerFilter`] passes answers as they are, and only
//! changes tables of routes. [`WholeMessages`] tracks what the agent has got, so that a last message can be added.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::format::BoltFormatError;
use super::messages::{self, Chunks, Piece, put_message, tag};
use crate::stream::StreamFilter;

/// The messages that may wait for their answers. Drivers send a few together.
const AWAITED_MAX: usize = 1024;

/// The longest table of routes, in bytes.
const TABLE_BYTES_MAX: usize = 256 * 1024;

/// The bytes of a message that have its tag.
const TAGGED_BYTES: usize = 2;

/// What answers a message.
#[derive(Debug)]
pub enum Awaited {
    Server,
    /// The server, with whose answer everything works again.
    Reset,
    /// The server, with a table of routes, which are to lead to this address.
    Routes(String),
    /// Keyward, which has not sent the message on.
    Own {
        answer: Vec<u8>,
        fails: bool,
    },
}

/// The messages of the agent that wait for an answer, in their order.
#[derive(Debug, Default)]
pub struct AwaitedAnswers {
    queue: Mutex<VecDeque<Awaited>>,
    /// Woken when Keyward answers itself.
    waker: AtomicWaker,
    /// Whether the agent has begun a transaction.
    has_transaction: AtomicBool,
}

/// Reads the messages of a server.
#[derive(Debug)]
pub struct AnswerFilter {
    awaited: Arc<AwaitedAnswers>,
    chunks: Chunks,
    /// The first bytes of the message.
    begun: Vec<u8>,
    /// The message, if it may be a table of routes.
    table: Option<Vec<u8>>,
    /// Whether the client was sent a failure, after which it resets the session.
    has_failed: bool,
}

impl AwaitedAnswers {
    /// Adds a message.
    ///
    /// # Errors
    /// When too many wait.
    pub fn add(&self, awaited: Awaited) -> Result<(), BoltFormatError> {
        let is_own = matches!(awaited, Awaited::Own { .. });
        let mut queue = self.queue.lock();
        if queue.len() == AWAITED_MAX {
            return Err(BoltFormatError::TooMany);
        }
        queue.push_back(awaited);
        drop(queue);
        if is_own {
            self.waker.wake();
        }
        Ok(())
    }

    pub fn set_transaction(&self, has_begun: bool) {
        self.has_transaction.store(has_begun, Relaxed);
    }

    pub fn has_transaction(&self) -> bool {
        self.has_transaction.load(Relaxed)
    }

    /// Whether nothing waits for an answer, and no transaction is open.
    pub fn is_idle(&self) -> bool {
        self.queue.lock().is_empty() && !self.has_transaction()
    }

    fn is_table_next(&self) -> bool {
        matches!(self.queue.lock().front(), Some(Awaited::Routes(_)))
    }

    fn take(&self) -> Option<Awaited> {
        self.queue.lock().pop_front()
    }

    fn take_own(&self) -> Option<(Vec<u8>, bool)> {
        let mut queue = self.queue.lock();
        match queue.pop_front()? {
            Awaited::Own { answer, fails } => Some((answer, fails)),
            other => {
                queue.push_front(other);
                None
            }
        }
    }
}

impl AnswerFilter {
    pub fn new(awaited: Arc<AwaitedAnswers>) -> Self {
        let (chunks, begun) = (Chunks::default(), Vec::with_capacity(TAGGED_BYTES));
        Self { awaited, chunks, begun, table: None, has_failed: false }
    }

    fn read(&mut self, mut bytes: &[u8], checked: &mut BytesMut) -> Result<(), BoltFormatError> {
        while !bytes.is_empty() {
            if self.chunks.is_between_messages() && self.awaited.is_table_next() {
                self.table = Some(Vec::new());
            }
            let before = bytes;
            let piece = self.chunks.piece(&mut bytes);
            if self.table.is_none() {
                checked.extend_from_slice(&before[..before.len() - bytes.len()]);
            }
            match piece {
                None | Some(Piece::Nothing) => {}
                Some(Piece::Payload(payload)) => {
                    let missing = TAGGED_BYTES - self.begun.len();
                    self.begun.extend(payload.iter().take(missing));
                    if let Some(table) = &mut self.table {
                        table.extend_from_slice(payload);
                        if table.len() > TABLE_BYTES_MAX {
                            return Err(BoltFormatError::TooLong);
                        }
                    }
                }
                Some(Piece::End) => self.end_message(checked)?,
            }
        }
        Ok(())
    }

    fn end_message(&mut self, checked: &mut BytesMut) -> Result<(), BoltFormatError> {
        let tag = self.begun.get(1).copied().unwrap_or_default();
        self.begun.clear();
        let is_summary = tag != tag::RECORD;
        let awaited = if is_summary { self.awaited.take() } else { None };
        match (self.table.take(), &awaited) {
            (Some(table), Some(Awaited::Routes(address))) if tag == tag::SUCCESS => {
                put_message(&messages::routed(&table, address)?, checked);
            }
            (Some(other), _) => put_message(&other, checked),
            (None, _) => {}
        }
        if !is_summary {
            return Ok(());
        }
        match tag {
            tag::FAILURE => self.has_failed = true,
            tag::SUCCESS if matches!(awaited, Some(Awaited::Reset)) => self.has_failed = false,
            _ => {}
        }
        self.add_own(checked);
        Ok(())
    }

    /// Adds Keyward's own answers whose turn it is.
    fn add_own(&mut self, checked: &mut BytesMut) {
        while let Some((answer, fails)) = self.awaited.take_own() {
            match self.has_failed {
                true => checked.put_slice(&messages::ignored()),
                false => checked.put_slice(&answer),
            }
            self.has_failed |= fails;
        }
    }
}

impl StreamFilter for AnswerFilter {
    fn feed(&mut self, bytes: &[u8], checked: &mut BytesMut) -> io::Result<()> {
        self.read(bytes, checked).map_err(|malformed| {
            tracing::info!(why = malformed.text(), "a server sent a malformed message of Bolt");
            io::ErrorKind::InvalidData.into()
        })
    }

    fn poll_own(&mut self, cx: &mut Context<'_>, checked: &mut BytesMut) {
        self.awaited.waker.register(cx.waker());
        if self.chunks.is_between_messages() {
            self.add_own(checked);
        }
    }
}

/// The stream of an agent, and whether what it was sent ends with a whole message.
#[derive(Debug)]
pub struct WholeMessages<S> {
    stream: S,
    chunks: Chunks,
}

impl<S> WholeMessages<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, chunks: Chunks::default() }
    }

    pub fn are_whole(&self) -> bool {
        self.chunks.is_between_messages()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WholeMessages<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WholeMessages<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        let mut sent = &bytes[..written];
        while this.chunks.piece(&mut sent).is_some() {}
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
