//! [`ask`]: a question of Keyward's own at a server.

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::packet::{ERROR, Sequence};
use crate::login::ServerError;
use keyward_base::database::DatabaseProtocol;

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
