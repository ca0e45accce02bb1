//! Sessions whose statements are read: read-only ones, and those with rules on statements. [`begin`] asks the server whether it
//! reads texts as they are read here. It refuses writes in a read-only session by itself, because the session's transactions are read-only;
//! `check.rs` closes the ways out of that, as far as statements show them.
//!
//! What a procedure or a function of the database does is invisible here. A user with few rights is the stronger limit.

pub mod check;
mod lexer;

use tokio::io::{AsyncRead, AsyncWrite};

pub use self::lexer::tokens;
use super::packet::{DEPRECATE_EOF, ERROR, OK, Parts, Sequence};
use crate::login::ServerError;
use keyward_base::database::DatabaseProtocol;

const SET: &[u8] = b"\x03SET SESSION TRANSACTION READ ONLY";

/// MySQL and MariaDB name the mode differently.
const QUESTION: &[u8] = b"\x03SHOW SESSION VARIABLES WHERE Variable_name IN \
    ('tx_read_only', 'transaction_read_only', 'sql_mode')";

/// Modes in which texts are read otherwise than here.
const OTHER_MODES: &[&str] = &["ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ORACLE", "MSSQL"];

/// Packets of the answer that are read. Servers send eight.
const PACKETS_MAX: usize = 64;

/// Begins a session whose statements are read, and makes it read-only if it should be. `flags`: what was agreed on with the
/// server.
///
/// # Errors
/// When the server does not, or reads texts otherwise than they are read here.
pub async fn begin<S>(stream: &mut S, flags: u32, read_only: bool) -> Result<(), ServerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if read_only {
        let mut sequence = Sequence::default();
        sequence.write(stream, SET).await?;
        if sequence.read(stream).await?.first() != Some(&OK) {
            return Err(ServerError::OtherMode);
        }
    }
    let mut sequence = Sequence::default();
    sequence.write(stream, QUESTION).await?;
    let columns = match sequence.read(stream).await?.first() {
        Some(&(0 | ERROR)) | None => return Err(ServerError::OtherMode),
        Some(columns) => usize::from(*columns),
    };
    let between = columns + usize::from(flags & DEPRECATE_EOF == 0);
    let (mut holds, mut knows_mode) = (!read_only, false);
    for number in 0..PACKETS_MAX {
        let payload = sequence.read(stream).await?;
        if number < between {
            continue;
        }
        // `EOF_Packet`, or an `OK_Packet` in its place. A row does not begin so: its first column is a short name.
        if payload.first() == Some(&0xfe) {
            return if holds && knows_mode { Ok(()) } else { Err(ServerError::OtherMode) };
        }
        let mut parts = Parts(&payload);
        let (Some(name), Some(value)) = (parts.counted(), parts.counted()) else {
            return Err(ServerError::Protocol(DatabaseProtocol::Mysql));
        };
        let value = String::from_utf8_lossy(value);
        match name {
            b"sql_mode" if value.split(',').any(|mode| OTHER_MODES.contains(&mode)) => {
                return Err(ServerError::OtherSqlMode);
            }
            b"sql_mode" => knows_mode = true,
            _ => holds |= value == "ON",
        }
    }
    Err(ServerError::Protocol(DatabaseProtocol::Mysql))
}
