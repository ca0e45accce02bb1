//! [`ask`]: a question to the server of a session that is not the agent's yet.

use bytes::BytesMut;
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::login_error::PostgresLoginError;
use super::messages::{self, PostgresReadError};

/// Messages of the answer that are read. Servers send four.
const MESSAGES_MAX: usize = 64;

/// Sends a query with one row. Returns what `read` makes of the row; `None` if there is none, or the server refuses.
///
/// # Errors
/// When the server does not answer.
pub async fn ask<S, T>(
    stream: &mut S,
    question: &str,
    read: impl Fn(&DataRowBody) -> Option<T>,
) -> Result<Option<T>, PostgresLoginError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut out = BytesMut::new();
    frontend::query(question, &mut out).map_err(|_| PostgresLoginError::Protocol)?;
    let sent = async {
        stream.write_all(&out).await?;
        stream.flush().await
    };
    sent.await.map_err(PostgresReadError::Ended)?;
    let mut found = None;
    for _ in 0..MESSAGES_MAX {
        match messages::read(stream).await?.0 {
            Message::DataRow(row) => found = read(&row),
            Message::ReadyForQuery(_) => return Ok(found),
            Message::ErrorResponse(_) => return Ok(None),
            _ => {}
        }
    }
    Err(PostgresLoginError::Protocol)
}
