//! Packets of MySQL's protocol: a length of three bytes, a sequence number, and a payload.
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basics.html>. [`ask`]: a question of Keyward's own at a server.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::login::ServerError;
use keyward_base::database::DatabaseProtocol;

/// The longest packet of a login, in bytes. Attributes of clients make it longer than it must be.
const LOGIN_BYTES_MAX: usize = 64 * 1024;

/// The protocol as of version 4.1, which all that follows depends on.
pub const PROTOCOL_41: u64 = 1 << 9;
/// Also says that a side does not know the extensions of MariaDB.
pub const LONG_PASSWORD: u64 = 1;
pub const FOUND_ROWS: u64 = 1 << 1;
pub const LONG_FLAG: u64 = 1 << 2;
pub const CONNECT_WITH_DB: u64 = 1 << 3;
pub const COMPRESS: u64 = 1 << 5;
pub const ODBC: u64 = 1 << 6;
pub const LOCAL_FILES: u64 = 1 << 7;
pub const IGNORE_SPACE: u64 = 1 << 8;
pub const INTERACTIVE: u64 = 1 << 10;
pub const TLS: u64 = 1 << 11;
pub const TRANSACTIONS: u64 = 1 << 13;
pub const SECURE_CONNECTION: u64 = 1 << 15;
pub const MULTI_STATEMENTS: u64 = 1 << 16;
pub const MULTI_RESULTS: u64 = 1 << 17;
pub const PS_MULTI_RESULTS: u64 = 1 << 18;
pub const PLUGIN_AUTH: u64 = 1 << 19;
pub const CONNECT_ATTRIBUTES: u64 = 1 << 20;
pub const LONG_AUTH_DATA: u64 = 1 << 21;
pub const SESSION_TRACK: u64 = 1 << 23;
pub const DEPRECATE_EOF: u64 = 1 << 24;
pub const COMPRESS_ZSTD: u64 = 1 << 26;
/// Extensions of MariaDB: a prepared statement is executed with many rows at once, and columns have the names of their types,
/// such as JSON. <https://mariadb.com/kb/en/connection/#capabilities>
pub const BULK_OPERATIONS: u64 = 1 << 34;
pub const EXTENDED_METADATA: u64 = 1 << 35;
/// The extensions that Keyward knows. MariaDB has them from version 10.5 on.
pub const OF_MARIADB: u64 = BULK_OPERATIONS | EXTENDED_METADATA;

/// First bytes of a server's packets.
pub const OK: u8 = 0x00;
pub const MORE_DATA: u8 = 0x01;
pub const SWITCH: u8 = 0xfe;
pub const ERROR: u8 = 0xff;

/// The capabilities of a side, whose extensions of MariaDB stand behind bytes that are not used.
pub fn capabilities(usual: u32, extensions: u32) -> u64 {
    match u64::from(usual) {
        usual if usual & LONG_PASSWORD == 0 => usual | u64::from(extensions) << 32,
        usual => usual,
    }
}

/// The two numbers of [`capabilities`] as they are sent.
pub fn halves(capabilities: u64) -> [[u8; 4]; 2] {
    let [a, b, c, d, e, f, g, h] = capabilities.to_le_bytes();
    [[a, b, c, d], [e, f, g, h]]
}

/// The sequence number of the next packet. Reads and writes the packets of a login.
#[derive(Debug, Default)]
pub struct Sequence(u8);

impl Sequence {
    /// Reads one packet, exactly.
    ///
    /// # Errors
    /// When the stream ends, or the packet is too long or out of order.
    pub async fn read<S>(&mut self, stream: &mut S) -> io::Result<Zeroizing<Vec<u8>>>
    where
        S: AsyncRead + Unpin,
    {
        let mut header = [0; 4];
        stream.read_exact(&mut header).await?;
        let [a, b, c, number] = header;
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        if length > LOGIN_BYTES_MAX || number != self.0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.0 = self.0.wrapping_add(1);
        let mut payload = Zeroizing::new(vec![0; length]);
        stream.read_exact(&mut payload).await?;
        Ok(payload)
    }

    /// Writes one packet.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn write<S>(&mut self, stream: &mut S, payload: &[u8]) -> io::Result<()>
    where
        S: AsyncWrite + Unpin,
    {
        stream.write_all(&Zeroizing::new(self.packet(payload))).await?;
        stream.flush().await
    }

    /// The next packet.
    pub fn packet(&mut self, payload: &[u8]) -> Vec<u8> {
        let packet = packet(self.0, payload);
        self.0 = self.0.wrapping_add(1);
        packet
    }

    /// What [`Sequence::packet`] would make, without counting it: the last packet of a stream.
    pub fn last_packet(&self, payload: &[u8]) -> Vec<u8> {
        packet(self.0, payload)
    }
}

/// A packet of a payload that is shorter than 16 MiB.
pub fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut packet = Vec::with_capacity(payload.len() + 4);
    packet.extend([a, b, c, number]);
    packet.extend(payload);
    packet
}

/// `ERR_Packet` with an error number and an SQLSTATE.
pub fn error(number: u16, state: &str, message: &str) -> Vec<u8> {
    let mut payload = vec![ERROR];
    payload.extend(number.to_le_bytes());
    payload.extend(b"#");
    payload.extend(state.as_bytes());
    payload.extend(message.bytes().take(512));
    payload
}

/// Whether the bytes end with a packet that ends an answer outside of a transaction: an `EOF_Packet`, or an `OK_Packet` with small
/// numbers. Any other one may do so too.
pub fn ends_answer(read: &[u8]) -> bool {
    // `SERVER_STATUS_IN_TRANS` and `SERVER_MORE_RESULTS_EXISTS`.
    let is_done = |status: u8| status & 0b1001 == 0;
    match *read {
        [.., 5, 0, 0, _, 0xfe, _, _, status, _] => is_done(status),
        [.., 7, 0, 0, _, OK | 0xfe, 0..=250, 0..=250, status, _, _, _] => is_done(status),
        _ => false,
    }
}

/// Reads the parts of a payload in order. Each method returns `None` if the payload is too short.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a>(pub &'a [u8]);

impl<'a> Parts<'a> {
    pub fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.bytes(2)?.try_into().ok()?))
    }

    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    /// Reads up to the next NUL, which is skipped.
    pub fn until_nul(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let part = self.bytes(end)?;
        self.bytes(1)?;
        Some(part)
    }

    /// Reads bytes with a length prefix: one byte, or a length-encoded integer.
    pub fn length_encoded(&mut self) -> Option<&'a [u8]> {
        let length = match self.u8()? {
            length @ ..=250 => usize::from(length),
            0xfc => usize::from(self.u16()?),
            0xfd => {
                let [a, b, c] = self.bytes(3)?.try_into().ok()?;
                u32::from_le_bytes([a, b, c, 0]) as usize
            }
            _ => return None,
        };
        self.bytes(length)
    }
}

/// Appends a text of up to 250 bytes with its length.
pub fn put_length_encoded(text: &[u8], out: &mut Vec<u8>) {
    let text = &text[..text.len().min(250)];
    out.push(u8::try_from(text.len()).unwrap_or(250));
    out.extend(text);
}

/// `COM_QUERY`: the first byte of a question.
pub const QUERY: u8 = 3;

pub const PROTOCOL: ServerError = ServerError::Protocol(DatabaseProtocol::Mysql);

/// Packets of the answer that are read. Servers send up to ten.
const PACKETS_MAX: usize = 64;

/// The row that a query answers, if any, in a session with the options of Keyward.
///
/// # Errors
/// When the server refuses, or does not answer so.
pub async fn ask<S>(
    stream: &mut S,
    question: &str,
) -> Result<Option<Zeroizing<Vec<u8>>>, ServerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut sequence = Sequence::default();
    sequence.write(stream, &[&[QUERY], question.as_bytes()].concat()).await?;
    let (mut ends, mut row) = (0, None);
    for _ in 0..PACKETS_MAX {
        let payload = sequence.read(stream).await?;
        match payload.first() {
            Some(&ERROR) | None => return Err(PROTOCOL),
            // `EOF_Packet`: behind the columns, and behind the row.
            Some(0xfe) if payload.len() < 9 && ends == 1 => return Ok(row),
            Some(0xfe) if payload.len() < 9 => ends += 1,
            Some(_) if ends == 1 => row = Some(payload),
            Some(_) => {}
        }
    }
    Err(PROTOCOL)
}
