//! [`confirm`]: asks the server whether a session has the mode of its connection. Poolers drop unknown start-up
//! parameters, so a session could silently have more rights.

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::DataRowBody;
use tokio::io::{AsyncRead, AsyncWrite};

use super::is_safe_encoding;
use crate::postgres::login_error::PostgresLoginError;
use crate::postgres::question::ask;

const QUESTION: &str = "SELECT current_setting('transaction_read_only'), \
    current_setting('standard_conforming_strings'), current_setting('client_encoding'), \
    current_setting('role')";

/// What a session begins with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SessionMode {
    pub read_only: bool,
    /// Whether its statements are read, which needs texts that are read here as by the server.
    pub reads_statements: bool,
    pub role: Option<String>,
}

/// Confirms that the session begins as it should.
///
/// # Errors
/// When it does not, or the server does not answer.
pub async fn confirm<S>(stream: &mut S, mode: &SessionMode) -> Result<(), PostgresLoginError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match ask(stream, QUESTION, |row| mode.is_that_of(row)).await? {
        Some(true) => Ok(()),
        _ => Err(PostgresLoginError::ModeMismatch),
    }
}

impl SessionMode {
    /// Whether the server must be asked.
    pub fn needs_confirmation(&self) -> bool {
        *self != Self::default()
    }

    fn is_that_of(&self, row: &DataRowBody) -> Option<bool> {
        let mut ranges = row.ranges();
        let mut next = || std::str::from_utf8(row.buffer().get(ranges.next().ok()???)?).ok();
        let is_read_only = next()? == "on";
        let (strings, encoding) = (next()?, next()?);
        let is_readable = strings == "on" && is_safe_encoding(encoding);
        let role = next()?;
        Some(
            (is_read_only || !self.read_only)
                && (is_readable || !self.reads_statements)
                && self.role.as_deref().is_none_or(|wanted| wanted == role),
        )
    }
}
