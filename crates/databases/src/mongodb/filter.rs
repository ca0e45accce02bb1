//! [`MongoFilter`] reads an agent's commands. Refused commands and `hello` are not sent to the server. It gets a `ping`
//! with the same request number instead, and [`AnswerFilter`] replaces its answer by Keyward's. So answers stay in
//! order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bson::{RawDocument, rawdoc};
use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::commands::{MongoAccess, MongoVerdict};
use super::wire::{
    self, CHECKSUM_PRESENT, COMMAND_BYTES_MAX, EARLY_BYTES_MAX, ErrorCode, HEADER_BYTES, Header,
    MORE_TO_COME, Message, MessageForm, MongoFormatError, OP_MSG, OP_QUERY, ReplyTo,
};
use crate::stream::StreamFilter;

/// The header, the flags, the kind of the first section and the length of its document.
const HEAD_BYTES: usize = HEADER_BYTES + 9;

/// Bytes before the document of a command.
const BEFORE_DOCUMENT: usize = HEADER_BYTES + 5;

/// The maximum number of pending answers. Clients wait for each answer.
const REPLACED_MAX: usize = 64;

/// The answers of Keyward, by the number of the request.
#[derive(Debug, Default)]
pub struct Replaced(Mutex<Vec<(i32, Vec<u8>)>>);

impl Replaced {
    fn add(&self, request: i32, answer: Vec<u8>) -> Result<(), MongoFormatError> {
        let mut all = self.0.lock();
        if all.len() == REPLACED_MAX {
            return Err(MongoFormatError::TooMany);
        }
        all.push((request, answer));
        Ok(())
    }

    fn take(&self, request: i32) -> Option<Vec<u8>> {
        let mut all = self.0.lock();
        let at = all.iter().position(|(own, _)| *own == request)?;
        Some(all.remove(at).1)
    }
}

/// Checks the commands of an agent.
pub struct MongoFilter {
    allowed: MongoAccess,
    /// The message up to the end of its command, as far as it has come.
    begun: Vec<u8>,
    rest: Rest,
    replaced: Arc<Replaced>,
    /// Set when what came was no message.
    malformed: Arc<AtomicBool>,
}

/// What follows the command in its message: documents, and a checksum.
#[derive(Debug, Default)]
struct Rest {
    /// Bytes that are missing.
    left: usize,
    /// Bytes of the checksum at the end.
    checksum: usize,
    /// Bytes that are missing of a section.
    section: usize,
    /// The kind and the length of the next section, as far as they have come.
    head: Vec<u8>,
    passes: bool,
}

impl StreamFilter for MongoFilter {
    fn feed(&mut self, bytes: &[u8], checked: &mut BytesMut) -> io::Result<()> {
        self.read(bytes, checked).map_err(|malformed| {
            tracing::debug!(why = malformed.text(), "an agent sent a malformed message of MongoDB");
            self.malformed.store(true, Relaxed);
            io::ErrorKind::InvalidData.into()
        })
    }
}

impl MongoFilter {
    /// `malformed`: set when what came was no message.
    pub fn new(allowed: MongoAccess, replaced: Arc<Replaced>, malformed: Arc<AtomicBool>) -> Self {
        Self { allowed, begun: Vec::new(), rest: Rest::default(), replaced, malformed }
    }

    fn read(&mut self, mut bytes: &[u8], checked: &mut BytesMut) -> Result<(), MongoFormatError> {
        while !bytes.is_empty() {
            if self.rest.left > 0 {
                self.rest.read(&mut bytes, checked)?;
                continue;
            }
            let needed = self.needed()?;
            let take = (needed - self.begun.len()).min(bytes.len());
            self.begun.extend_from_slice(&bytes[..take]);
            bytes.advance(take);
            if self.begun.len() == self.needed()? {
                self.decide(checked)?;
            }
        }
        Ok(())
    }

    /// How many bytes of the message are needed: more, when its lengths have come.
    fn needed(&self) -> Result<usize, MongoFormatError> {
        let Some(head) = self.begun.first_chunk::<HEADER_BYTES>() else { return Ok(HEADER_BYTES) };
        let header = Header::parse(head)?;
        match header.opcode {
            OP_QUERY if header.length <= EARLY_BYTES_MAX => return Ok(header.length),
            OP_MSG if header.length >= HEAD_BYTES => {}
            OP_QUERY | OP_MSG => return Err(MongoFormatError::Length),
            _ => return Err(MongoFormatError::Opcode),
        }
        let Some([.., a, b, c, d]) = self.begun.first_chunk::<HEAD_BYTES>() else {
            return Ok(HEAD_BYTES);
        };
        let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        let room = header.length - BEFORE_DOCUMENT;
        match (5..=COMMAND_BYTES_MAX.min(room)).contains(&length) {
            true => Ok(BEFORE_DOCUMENT + length),
            false => Err(MongoFormatError::Document),
        }
    }

    /// The command has come.
    fn decide(&mut self, checked: &mut BytesMut) -> Result<(), MongoFormatError> {
        let begun = std::mem::take(&mut self.begun);
        let head = begun.first_chunk().ok_or(MongoFormatError::Length)?;
        let header = Header::parse(head)?;
        if header.opcode == OP_QUERY {
            return self.old_hello(header, &begun, checked);
        }
        let flags = [begun[16], begun[17], begun[18], begun[19]];
        let flags = wire::flags(flags)?;
        if begun[20] != 0 {
            return Err(MongoFormatError::Section);
        }
        let checksum = if flags & CHECKSUM_PRESENT == 0 { 0 } else { 4 };
        let left = header.length - begun.len();
        if left < checksum {
            return Err(MongoFormatError::Length);
        }
        let document = RawDocument::from_bytes(&begun[BEFORE_DOCUMENT..]);
        let document = document.map_err(|_| MongoFormatError::Document)?;
        let answer = match self.allowed.verdict(document, left > checksum) {
            MongoVerdict::Passes => None,
            MongoVerdict::Hello => Some(wire::hello(document)),
            MongoVerdict::Refused(words) => Some(wire::error(ErrorCode::Unauthorized, &words)),
        };
        self.rest = Rest { left, checksum, passes: answer.is_none(), ..Rest::default() };
        match answer {
            None => checked.extend_from_slice(&begun),
            // No answer is awaited.
            Some(_) if flags & MORE_TO_COME != 0 => {}
            Some(answer) => {
                let asked = ReplyTo { form: MessageForm::Msg, request: header.request };
                self.replace(asked, &answer, checked)?;
            }
        }
        Ok(())
    }

    /// `OP_QUERY` is for hello alone; servers since version 5.1 know no other.
    fn old_hello(
        &self,
        header: Header,
        begun: &[u8],
        checked: &mut BytesMut,
    ) -> Result<(), MongoFormatError> {
        let body = Zeroizing::new(begun[HEADER_BYTES..].to_vec());
        let message = Message { header, body };
        let (asked, document) = message.command()?;
        let first = document.iter_elements().next().ok_or(MongoFormatError::Document)?;
        let first = first.map_err(|_| MongoFormatError::Document)?;
        match wire::is_hello(first.key().as_str()) {
            true => self.replace(asked, &wire::hello(document), checked),
            false => Err(MongoFormatError::Opcode),
        }
    }

    fn replace(
        &self,
        asked: ReplyTo,
        answer: &RawDocument,
        checked: &mut BytesMut,
    ) -> Result<(), MongoFormatError> {
        self.replaced.add(asked.request, wire::answer(asked, answer))?;
        let ping = rawdoc! { "ping": 1, "$db": "admin" };
        checked.extend_from_slice(&wire::msg(asked.request, 0, &ping));
        Ok(())
    }
}

impl Rest {
    /// Takes a part of what follows a command: sections of documents, and nothing else.
    fn read(&mut self, bytes: &mut &[u8], checked: &mut BytesMut) -> Result<(), MongoFormatError> {
        if self.section == 0 && self.left == self.checksum {
            self.section = self.left;
        }
        if self.section > 0 {
            let take = self.section.min(bytes.len());
            self.pass(&bytes[..take], checked);
            bytes.advance(take);
            self.section -= take;
            self.left -= take;
            return Ok(());
        }
        self.head.push(bytes[0]);
        bytes.advance(1);
        self.left -= 1;
        if let [kind, a, b, c, d] = self.head[..] {
            let length = u32::from_le_bytes([a, b, c, d]) as usize;
            // The length counts itself, and at least the end of a name follows.
            let fits = (5..=self.left - self.checksum + 4).contains(&length);
            if kind != 1 || !fits {
                return Err(MongoFormatError::Section);
            }
            let head = std::mem::take(&mut self.head);
            self.pass(&head, checked);
            self.section = length - 4;
        } else if self.left == self.checksum {
            return Err(MongoFormatError::Section);
        }
        Ok(())
    }

    fn pass(&self, bytes: &[u8], checked: &mut BytesMut) {
        if self.passes {
            checked.extend_from_slice(bytes);
        }
    }
}

/// Puts Keyward's answers in the place of the server's.
#[derive(Debug)]
pub struct AnswerFilter {
    replaced: Arc<Replaced>,
    /// The header of an answer, as far as it has come.
    head: Vec<u8>,
    /// Bytes of the answer that are missing, and whether the client gets them.
    left: usize,
    passes: bool,
}

impl AnswerFilter {
    pub fn new(replaced: Arc<Replaced>) -> Self {
        Self { replaced, head: Vec::with_capacity(HEADER_BYTES), left: 0, passes: true }
    }
}

impl StreamFilter for AnswerFilter {
    fn feed(&mut self, mut bytes: &[u8], checked: &mut BytesMut) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let take = self.left.min(bytes.len());
                if self.passes {
                    checked.extend_from_slice(&bytes[..take]);
                }
                bytes.advance(take);
                self.left -= take;
                continue;
            }
            let take = (HEADER_BYTES - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..take]);
            bytes.advance(take);
            let Some(head) = self.head.first_chunk() else { continue };
            let header = Header::parse(head).map_err(|malformed| {
                tracing::info!(
                    why = malformed.text(),
                    "a server sent a malformed message of MongoDB"
                );
                io::Error::from(io::ErrorKind::InvalidData)
            })?;
            self.left = header.length - HEADER_BYTES;
            let own = self.replaced.take(header.response_to);
            self.passes = own.is_none();
            checked.extend_from_slice(own.as_deref().unwrap_or(&self.head));
            self.head.clear();
        }
        Ok(())
    }
}
