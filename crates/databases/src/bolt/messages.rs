//! Messages of Bolt: their chunks, their tags, and Keyward's own answers.
//! <https://neo4j.com/docs/bolt/current/bolt/message/>

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

use super::format::{BoltFormatError, BoltReadError, BoltVersion};
use super::packstream::{self, BoltMap, ValueReader, put_map, put_text};
use keyward_base::bolt;

/// The longest message of a client that has not authenticated, in bytes.
pub const EARLY_BYTES_MAX: usize = 16 * 1024;

/// The longest chunk, in bytes.
const CHUNK_BYTES_MAX: usize = 0xffff;

/// The first version whose failures have a status of GQL.
const GQL_SINCE: BoltVersion = BoltVersion { major: 5, minor: 7 };

/// The tags of messages.
pub mod tag {
    pub const HELLO: u8 = 0x01;
    pub const GOODBYE: u8 = 0x02;
    pub const RESET: u8 = 0x0f;
    pub const RUN: u8 = 0x10;
    pub const BEGIN: u8 = 0x11;
    pub const COMMIT: u8 = 0x12;
    pub const ROLLBACK: u8 = 0x13;
    pub const DISCARD: u8 = 0x2f;
    pub const PULL: u8 = 0x3f;
    pub const TELEMETRY: u8 = 0x54;
    pub const ROUTE: u8 = 0x66;
    pub const LOGON: u8 = 0x6a;
    pub const LOGOFF: u8 = 0x6b;
    pub const SUCCESS: u8 = 0x70;
    pub const RECORD: u8 = 0x71;
    pub const IGNORED: u8 = 0x7e;
    pub const FAILURE: u8 = 0x7f;
}

/// Splits a stream into the chunks of its messages.
#[derive(Clone, Debug, Default)]
pub struct Chunks {
    /// The first byte of a chunk's length.
    high: Option<u8>,
    /// Bytes of the chunk that are missing.
    left: usize,
    is_within_message: bool,
}

/// A part of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Piece<'a> {
    Payload(&'a [u8]),
    /// The end of a message.
    End,
    /// An empty chunk between messages, which keeps a stream open.
    Nothing,
}

impl Chunks {
    /// Whether all messages that have begun have ended.
    pub fn is_between_messages(&self) -> bool {
        !self.is_within_message && self.high.is_none() && self.left == 0
    }

    /// The next part of these bytes; `None`: they are at an end.
    pub fn piece<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        loop {
            if self.left > 0 {
                if bytes.is_empty() {
                    return None;
                }
                let (payload, rest) = bytes.split_at(self.left.min(bytes.len()));
                *bytes = rest;
                self.left -= payload.len();
                return Some(Piece::Payload(payload));
            }
            let (byte, rest) = bytes.split_first()?;
            *bytes = rest;
            let Some(high) = self.high.take() else {
                self.high = Some(*byte);
                continue;
            };
            self.left = usize::from(u16::from_be_bytes([high, *byte]));
            if self.left == 0 {
                let has_ended = std::mem::take(&mut self.is_within_message);
                return Some(if has_ended { Piece::End } else { Piece::Nothing });
            }
            self.is_within_message = true;
        }
    }
}

/// Appends a part of a message as chunks.
pub fn put_chunks(payload: &[u8], out: &mut impl BufMut) {
    for chunk in payload.chunks(CHUNK_BYTES_MAX) {
        out.put_u16(u16::try_from(chunk.len()).unwrap_or(u16::MAX));
        out.put_slice(chunk);
    }
}

/// Appends a whole message.
pub fn put_message(payload: &[u8], out: &mut impl BufMut) {
    put_chunks(payload, out);
    out.put_u16(0);
}

/// A message as it is sent. There is room for all of it, so that a password in it is not copied.
pub fn framed(payload: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = payload.len() + 2 * payload.len().div_ceil(CHUNK_BYTES_MAX) + 2;
    let mut out = Zeroizing::new(Vec::with_capacity(length));
    put_message(payload, &mut *out);
    out
}

/// Reads one message, exactly.
///
/// # Errors
/// When the stream ends, or the message is longer.
pub async fn read<S>(stream: &mut S, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, BoltReadError>
where
    S: AsyncRead + Unpin,
{
    // It never grows, which would leave copies of a token.
    let mut message = Zeroizing::new(Vec::with_capacity(bytes_max));
    loop {
        let length = usize::from(stream.read_u16().await?);
        if length == 0 && !message.is_empty() {
            return Ok(message);
        }
        let begin = message.len();
        if begin + length > bytes_max {
            return Err(BoltReadError::Malformed(BoltFormatError::TooLong));
        }
        message.resize(begin + length, 0);
        stream.read_exact(&mut message[begin..]).await?;
    }
}

/// The tag of a message, the number of its fields, and these.
///
/// # Errors
/// When it is no structure.
pub fn parts(message: &[u8]) -> Result<(u8, u8, ValueReader<'_>), BoltFormatError> {
    match message {
        [marker @ 0xb0..=0xbf, tag, fields @ ..] => Ok((*tag, marker & 0x0f, ValueReader(fields))),
        _ => Err(BoltFormatError::Value),
    }
}

/// The metadata of a summary message of a server.
pub fn metadata(message: &[u8]) -> Result<(u8, BoltMap<'_>), BoltFormatError> {
    let (tag, count, mut fields) = parts(message)?;
    let map = if count == 0 { BoltMap::default() } else { fields.map()? };
    Ok((tag, map))
}

/// A message with one field.
pub fn with_field(tag: u8, field: &[u8]) -> Vec<u8> {
    [&[0xb1, tag][..], field].concat()
}

/// `SUCCESS` without metadata.
pub fn success() -> Vec<u8> {
    sent(&[0xb1, tag::SUCCESS, 0xa0])
}

/// `IGNORED`.
pub fn ignored() -> Vec<u8> {
    sent(&[0xb0, tag::IGNORED])
}

/// The answer to `HELLO` of a client that then logs on: the server is not reached yet.
pub fn greeted() -> Vec<u8> {
    let mut field = Vec::new();
    put_map(3, &mut field);
    let server = bolt::value("message", "agent");
    packstream::put_entries(&[("server", server), ("connection_id", "keyward")], &mut field);
    put_text("hints", &mut field);
    put_map(0, &mut field);
    sent(&with_field(tag::SUCCESS, &field))
}

/// `FAILURE` as clients of a version read it.
pub fn failure(version: BoltVersion, code: &str, message: &str) -> Vec<u8> {
    let field = match version >= GQL_SINCE {
        false => packstream::map_of_texts(&[("code", code), ("message", message)]),
        true => packstream::map_of_texts(&[
            (bolt::value("message", "failure_code"), code),
            ("message", message),
            ("gql_status", "50N42"),
            ("description", "error: general processing exception - unexpected error"),
        ]),
    };
    sent(&with_field(tag::FAILURE, &field))
}

/// A list of texts.
pub fn put_texts(texts: &[&str], out: &mut Vec<u8>) {
    packstream::put_list(texts.len(), out);
    texts.iter().for_each(|text| put_text(text, out));
}

/// A table of routes that leads to one server in every role, as it was answered otherwise.
///
/// # Errors
/// When the answer is no table.
pub fn routed(answer: &[u8], address: &str) -> Result<Vec<u8>, BoltFormatError> {
    let (_, mut outer) = metadata(answer)?;
    let table = outer.get("rt").ok_or(BoltFormatError::Value)?;
    let mut table = ValueReader(table).map()?;
    let roles = ["ROUTE", "READ", "WRITE"];
    let mut servers = Vec::new();
    packstream::put_list(roles.len(), &mut servers);
    for role in roles {
        put_map(2, &mut servers);
        put_text("addresses", &mut servers);
        put_texts(&[address], &mut servers);
        packstream::put_entries(&[("role", role)], &mut servers);
    }
    table.remove(&["servers"]);
    table.0.push(("servers", servers.as_slice()));
    let mut written = Vec::new();
    table.write(&mut written);
    outer.remove(&["rt"]);
    outer.0.push(("rt", written.as_slice()));
    let mut all = vec![0xb1, tag::SUCCESS];
    outer.write(&mut all);
    Ok(all)
}

fn sent(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 4);
    put_message(payload, &mut out);
    out
}
