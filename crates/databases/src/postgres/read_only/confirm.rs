//! [`confirm`]: asks the server whether a session is read-only. Poolers drop parameters that they do not know, and a session
//! that may write would look the same to the agent.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::is_safe_encoding;
use crate::postgres::login::LoginError;
use crate::postgres::messages::{self, ReadError};

const QUESTION: &str = "SELECT current_setting('transaction_read_only'), \
    current_setting('standard_conforming_strings'), current_setting('client_encoding')";

/// Messages of the answer that are read. Servers send four.
const MESSAGES_MAX: usize = 64;

/// Confirms that the session begins as a read-only one.
///
/// # Errors
/// When it does not, or the server does not answer.
pub async fn confirm<S>(stream: &mut S) -> Result<(), LoginError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut out = BytesMut::new();
    frontend::query(QUESTION, &mut out).map_err(|_| LoginError::Protocol)?;
    let sent = async {
        stream.write_all(&out).await?;
        stream.flush().await
    };
    sent.await.map_err(ReadError::Ended)?;
    let mut is_read_only = false;
    for _ in 0..MESSAGES_MAX {
        match messages::read(stream).await?.0 {
            Message::DataRow(row) => is_read_only = says_so(&row).unwrap_or_default(),
            Message::ReadyForQuery(_) if is_read_only => return Ok(()),
            Message::ReadyForQuery(_) | Message::ErrorResponse(_) => {
                return Err(LoginError::NotReadOnly);
            }
            _ => {}
        }
    }
    Err(LoginError::Protocol)
}

fn says_so(row: &DataRowBody) -> Option<bool> {
    let mut ranges = row.ranges();
    let mut next = || std::str::from_utf8(row.buffer().get(ranges.next().ok()???)?).ok();
    Some(next()? == "on" && next()? == "on" && is_safe_encoding(next()?))
}
