//! Messages of MongoDB: `OP_MSG`, and `OP_QUERY` with which old clients say hello.
//! <https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/>. Compressed messages are never agreed on. Also the
//! documents of Keyward's own answers: to `hello`, to logins, and refusals.

use bson::oid::ObjectId;
use bson::raw::cstr;
use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, rawdoc};
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

/// The length of a header, in bytes.
pub const HEADER_BYTES: usize = 16;

/// The longest message (`maxMessageSizeBytes` of servers), in bytes.
pub const MESSAGE_BYTES_MAX: usize = 48_000_000;

/// The longest document of a command: 16 MiB and what commands add (`BSONObjMaxInternalSize` of servers), in bytes.
pub const COMMAND_BYTES_MAX: usize = (16 << 20) + (16 << 10);

/// The longest message of a client that has not authenticated, in bytes.
pub const EARLY_BYTES_MAX: usize = 16 * 1024;

pub const OP_REPLY: i32 = 1;
pub const OP_QUERY: i32 = 2004;
pub const OP_MSG: i32 = 2013;

/// The last four bytes are a checksum.
pub const CHECKSUM_PRESENT: u32 = 1;
/// No answer is wanted, or another message follows.
pub const MORE_TO_COME: u32 = 2;
/// The server may send several answers.
const EXHAUST_ALLOWED: u32 = 1 << 16;
/// Flags that a reader must know; it refuses messages with others.
const REQUIRED_FLAGS: u32 = 0xffff;

/// Why bytes are no message. Nothing of them is repeated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MongoFormatError {
    Length,
    Opcode,
    Flags,
    Section,
    Document,
    /// A client sends more than it may before it has authenticated.
    TooMany,
}

impl MongoFormatError {
    /// What is wrong.
    pub fn text(self) -> &'static str {
        match self {
            Self::Length => "the length of a message is out of bounds",
            Self::Opcode => "a message is neither OP_MSG nor a first OP_QUERY",
            Self::Flags => "a message has unknown flags",
            Self::Section => "the sections of a message are not one command and its documents",
            Self::Document => "a command is no BSON document",
            Self::TooMany => "too many messages before the login",
        }
    }
}

/// The beginning of each message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// The length of the message with its header, in bytes.
    pub length: usize,
    pub request: i32,
    pub response_to: i32,
    pub opcode: i32,
}

impl Header {
    /// Reads a header, and checks that the message has room for one.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, MongoFormatError> {
        let number = |at: usize| {
            i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let length = usize::try_from(number(0)).map_err(|_| MongoFormatError::Length)?;
        if !(HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&length) {
            return Err(MongoFormatError::Length);
        }
        Ok(Self { length, request: number(4), response_to: number(8), opcode: number(12) })
    }
}

/// How a client asks, and so how it is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MessageForm {
    Msg,
    /// `OP_QUERY`, which is answered with `OP_REPLY`.
    Query,
}

/// The place of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReplyTo {
    pub form: MessageForm,
    /// The number of the request.
    pub request: i32,
}

/// A whole message.
#[derive(Debug)]
pub struct Message {
    pub header: Header,
    /// What follows the header. It may hold a token or a password.
    pub body: Zeroizing<Vec<u8>>,
}

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub enum MongoReadError {
    #[error("the stream ended")]
    Ended(#[from] std::io::Error),
    #[error("{}", .0.text())]
    Malformed(MongoFormatError),
}

impl From<MongoFormatError> for MongoReadError {
    fn from(malformed: MongoFormatError) -> Self {
        Self::Malformed(malformed)
    }
}

impl Message {
    /// Reads one message of at most `max` bytes, and nothing behind it.
    pub async fn read<S: AsyncRead + Unpin>(
        stream: &mut S,
        max: usize,
    ) -> Result<Self, MongoReadError> {
        let mut head = [0; HEADER_BYTES];
        stream.read_exact(&mut head).await?;
        let header = Header::parse(&head)?;
        if header.length > max {
            return Err(MongoFormatError::Length.into());
        }
        let mut body = Zeroizing::new(vec![0; header.length - HEADER_BYTES]);
        stream.read_exact(&mut body).await?;
        Ok(Self { header, body })
    }

    /// The only section of an `OP_MSG`, or the query of an `OP_QUERY` for a command.
    pub fn command(&self) -> Result<(ReplyTo, &RawDocument), MongoFormatError> {
        let (form, document) = match self.header.opcode {
            OP_MSG => (MessageForm::Msg, only_section(&self.body)?),
            OP_QUERY => (MessageForm::Query, query(&self.body)?),
            _ => return Err(MongoFormatError::Opcode),
        };
        let document = RawDocument::from_bytes(document).map_err(|_| MongoFormatError::Document)?;
        Ok((ReplyTo { form, request: self.header.request }, document))
    }

    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = header(self.header, self.body.len());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// The flags of an `OP_MSG`, which a reader must know.
pub fn flags(bytes: [u8; 4]) -> Result<u32, MongoFormatError> {
    let flags = u32::from_le_bytes(bytes);
    let known = CHECKSUM_PRESENT | MORE_TO_COME | EXHAUST_ALLOWED;
    match flags & REQUIRED_FLAGS & !known {
        0 => Ok(flags),
        _ => Err(MongoFormatError::Flags),
    }
}

fn only_section(body: &[u8]) -> Result<&[u8], MongoFormatError> {
    let (head, rest) = body.split_first_chunk::<4>().ok_or(MongoFormatError::Length)?;
    let checksum = if flags(*head)? & CHECKSUM_PRESENT != 0 { 4 } else { 0 };
    let end = rest.len().checked_sub(checksum).ok_or(MongoFormatError::Length)?;
    match rest[..end].split_first() {
        Some((0, document)) => Ok(document),
        _ => Err(MongoFormatError::Section),
    }
}

fn query(body: &[u8]) -> Result<&[u8], MongoFormatError> {
    let rest = body.get(4..).ok_or(MongoFormatError::Length)?;
    let end = rest.iter().position(|byte| *byte == 0).ok_or(MongoFormatError::Section)?;
    if !rest[..end].ends_with(b".$cmd") {
        return Err(MongoFormatError::Opcode);
    }
    // How many documents are skipped and returned.
    rest.get(end + 9..).ok_or(MongoFormatError::Length)
}

/// An `OP_MSG` with one document.
pub fn msg(request: i32, response_to: i32, document: &RawDocument) -> Vec<u8> {
    let length = 5 + document.as_bytes().len();
    let mut bytes = header(Header { length: 0, request, response_to, opcode: OP_MSG }, length);
    bytes.extend_from_slice(&[0; 5]);
    bytes.extend_from_slice(document.as_bytes());
    bytes
}

/// The answer with one document to what a client asked.
pub fn answer(asked: ReplyTo, document: &RawDocument) -> Vec<u8> {
    if asked.form == MessageForm::Msg {
        return msg(0, asked.request, document);
    }
    let head = Header { length: 0, request: 0, response_to: asked.request, opcode: OP_REPLY };
    let mut bytes = header(head, 20 + document.as_bytes().len());
    // No flags, no cursor, from the first document on; one document.
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(&1_i32.to_le_bytes());
    bytes.extend_from_slice(document.as_bytes());
    bytes
}

/// A header before so many bytes, with room for them.
fn header(header: Header, body_bytes: usize) -> Vec<u8> {
    let length = HEADER_BYTES + body_bytes;
    let mut bytes = Vec::with_capacity(length);
    let length = i32::try_from(length).expect("messages have at most 48 MB");
    for number in [length, header.request, header.response_to, header.opcode] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// The version of the protocol in the answer (MongoDB 7.0): Keyward has no stream to the server yet. Clients of an older server
/// may send what it refuses; clients of a newer one do not use what is new.
const WIRE_VERSION: i32 = 21;

/// Minutes after which servers forget an idle session of a client, by default.
const SESSION_MINUTES: i32 = 30;

/// Names the gateway to clients that believe it to be a load balancer.
const SERVICE: [u8; 12] = *b"keyward-here";

/// The answer to `hello` and its old names: that of one `mongos`, so that sessions, transactions and retries work and clients
/// look for no other server. It repeats nothing of the server's own answer.
pub fn hello(command: &RawDocument) -> RawDocumentBuf {
    let asks = |name: &str| matches!(command.get(name), Ok(Some(_)));
    let is_true = |name: &str| matches!(command.get_bool(name), Ok(true));
    let mut document = rawdoc! {
        "helloOk": true,
        "ismaster": true,
        "isWritablePrimary": true,
        "msg": "isdbgrid",
        "maxBsonObjectSize": 16 << 20,
        "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000,
        "logicalSessionTimeoutMinutes": SESSION_MINUTES,
        "minWireVersion": 0,
        "maxWireVersion": WIRE_VERSION,
        "readOnly": false,
    };
    if is_true("loadBalanced") {
        document.append(cstr!("serviceId"), ObjectId::from_bytes(SERVICE));
    }
    if asks("saslSupportedMechs") {
        let mut mechanisms = RawArrayBuf::new();
        mechanisms.push("PLAIN");
        document.append(cstr!("saslSupportedMechs"), mechanisms);
    }
    document.append(cstr!("ok"), 1.0);
    document
}

/// Whether the name of a command is `hello` or one of its old names.
pub fn is_hello(name: &str) -> bool {
    matches!(name, "hello" | "isMaster" | "ismaster")
}

/// Errors of servers that clients know by number and name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorCode {
    BadValue,
    Unauthorized,
    AuthenticationFailed,
    MechanismUnavailable,
}

impl ErrorCode {
    fn number(self) -> i32 {
        match self {
            Self::BadValue => 2,
            Self::Unauthorized => 13,
            Self::AuthenticationFailed => 18,
            Self::MechanismUnavailable => 334,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::BadValue => "BadValue",
            Self::Unauthorized => "Unauthorized",
            Self::AuthenticationFailed => "AuthenticationFailed",
            Self::MechanismUnavailable => "MechanismUnavailable",
        }
    }
}

/// An error as clients show it.
pub fn error(code: ErrorCode, words: &str) -> RawDocumentBuf {
    rawdoc! { "ok": 0.0, "errmsg": words, "code": code.number(), "codeName": code.name() }
}

/// The answer to `saslStart` of a client that has authenticated.
pub fn authenticated() -> RawDocumentBuf {
    let payload = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: Vec::new() };
    rawdoc! { "conversationId": 1, "done": true, "payload": payload, "ok": 1.0 }
}
