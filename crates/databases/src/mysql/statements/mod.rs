//! Sessions whose statements are read: read-only ones, and those with rules on statements. [`begin`] asks the server whether it
//! reads texts as they are read here. It refuses writes in a read-only session by itself, because the session's transactions are read-only;
//! `check.rs` refuses statements that would lift this restriction.
//!
//! What a procedure or a function of the database does is invisible here. A user with few rights is the stronger limit.

pub mod check;
mod lexer;
pub mod settings;

use tokio::io::{AsyncRead, AsyncWrite};

pub use self::lexer::{tokens, unwrapped};
use self::settings::is_safe_charset;
use super::packet::{DEPRECATE_EOF, ERROR, OK, Parts, Sequence};
use crate::login::ServerError;
use keyward_base::database::DatabaseProtocol;

const SET: &[u8] = b"\x03SET SESSION TRANSACTION READ ONLY";

/// MySQL and MariaDB name the mode differently. The character set is not always the one that was agreed on: `init_connect`
/// and `skip-character-set-client-handshake` of a server change it.
const QUESTION: &[u8] = b"\x03SHOW SESSION VARIABLES WHERE Variable_name IN \
    ('tx_read_only', 'transaction_read_only', 'sql_mode', 'character_set_client')";

/// Modes in which texts are read otherwise than here.
const OTHER_MODES: &[&str] = &["ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ORACLE", "MSSQL"];

/// Packets of the answer that are read. Servers send up to ten.
const PACKETS_MAX: usize = 64;

const PROTOCOL: ServerError = ServerError::Protocol(DatabaseProtocol::Mysql);

/// The settings of a session that a server has confirmed.
#[derive(Clone, Copy, Debug, Default)]
struct Confirmed {
    read_only: bool,
    sql_mode: bool,
    charset: bool,
}

/// Begins a session whose statements are read, and makes it read-only if it should be. `flags`: what was agreed on with the
/// server.
///
/// # Errors
/// When the server does not, or reads texts otherwise than they are read here.
pub async fn begin<S>(stream: &mut S, flags: u64, read_only: bool) -> Result<(), ServerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if read_only {
        let mut sequence = Sequence::default();
        sequence.write(stream, SET).await?;
        if sequence.read(stream).await?.first() != Some(&OK) {
            return Err(ServerError::ModeMismatch);
        }
    }
    let mut sequence = Sequence::default();
    sequence.write(stream, QUESTION).await?;
    let columns = match sequence.read(stream).await?.first() {
        Some(&(0 | ERROR)) | None => return Err(ServerError::ModeMismatch),
        Some(columns) => usize::from(*columns),
    };
    let between = columns + usize::from(flags & DEPRECATE_EOF == 0);
    let mut confirmed = Confirmed { read_only: !read_only, ..Confirmed::default() };
    for number in 0..PACKETS_MAX {
        let payload = sequence.read(stream).await?;
        if number < between {
            continue;
        }
        // `EOF_Packet`, or an `OK_Packet` in its place. A row does not begin so: its first column is a short name.
        if payload.first() == Some(&0xfe) {
            return match confirmed {
                Confirmed { read_only: true, sql_mode: true, charset: true } => Ok(()),
                _ => Err(ServerError::ModeMismatch),
            };
        }
        confirmed.add(&payload)?;
    }
    Err(PROTOCOL)
}

impl Confirmed {
    /// Adds the name and the value of a variable.
    fn add(&mut self, row: &[u8]) -> Result<(), ServerError> {
        let mut parts = Parts(row);
        let (Some(name), Some(value)) = (parts.length_encoded(), parts.length_encoded()) else {
            return Err(PROTOCOL);
        };
        let value = String::from_utf8_lossy(value);
        match name {
            b"tx_read_only" | b"transaction_read_only" => self.read_only |= value == "ON",
            b"sql_mode" if value.split(',').any(|mode| OTHER_MODES.contains(&mode)) => {
                return Err(ServerError::SqlModeMismatch);
            }
            b"sql_mode" => self.sql_mode = true,
            b"character_set_client" if !is_safe_charset(&value) => {
                return Err(ServerError::CharsetMismatch);
            }
            b"character_set_client" => self.charset = true,
            _ => return Err(PROTOCOL),
        }
        Ok(())
    }
}
