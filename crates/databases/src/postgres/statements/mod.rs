//! Sessions whose statements are read: read-only ones, and those with rules on statements. This file has what such a session
//! begins with, which the server is asked to confirm: poolers drop unknown start-up parameters, so a session could silently
//! have more rights.
//!
//! ```text
//! lexer      tokens, as the server finds them
//! check      what a session keeps, and which statements would change that
//! read_only  which statements only read
//! filter     replaces refused statements by one that fails
//! ```
//!
//! The server itself refuses writes in a read-only session, because it begins with `default_transaction_read_only`. `check.rs`
//! refuses statements that would unset it, and a session in which it is unset nevertheless ends (`answers.rs`).
//!
//! What a function of the database does is invisible here. A role with few rights is the stronger limit.

pub mod check;
pub mod filter;
mod lexer;
mod read_only;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::DataRowBody;
use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(test)]
pub use lexer::tokens;

use crate::postgres::messages::{PostgresLoginError, ask};
use crate::rules::StatementRules;
use crate::sql::{Lexed, SqlToken, lower};

/// Whether texts of the encoding are read here as by the server. In others a byte of a character may look like a quote's
/// escape. The server's own encodings have no such characters.
pub fn is_safe_encoding(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    matches!(&*name.to_ascii_lowercase(), "utf8" | "unicode" | "sqlascii" | "latin1" | "iso88591")
}

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

/// Whether a server of this version keeps the role with which the session began when it sets the session's user, as
/// `DISCARD ALL` does. Servers with other forms of versions are not known to.
/// <https://www.postgresql.org/support/security/CVE-2024-10978/>
pub fn keeps_role(version: &str) -> bool {
    // Packages add their own version: `16.4 (Debian 16.4-1.pgdg120+1)`.
    let number = match version.split_once(" (") {
        Some((number, package)) if package.ends_with(')') => number,
        _ => version,
    };
    let parts = number.split_once('.');
    let Some((Ok(major), Ok(minor))) =
        parts.map(|(major, minor)| (major.parse::<u32>(), minor.parse::<u32>()))
    else {
        return false;
    };
    match major {
        12 => minor >= 21,
        13 => minor >= 17,
        14 => minor >= 14,
        15 => minor >= 9,
        16 => minor >= 5,
        17 => minor >= 1,
        _ => major >= 18,
    }
}

/// Whether a statement is `SET search_path TO schema, …` with safe schemas. The search path of a session decides which table or
/// function a name without a schema is, so it may have only schemas in which the rules permit the same ones.
fn sets_safe_path(tokens: &[Lexed], text: &[u8], rules: &StatementRules) -> bool {
    let [set, rest @ ..] = tokens else { return false };
    let rest = match rest {
        [scope, rest @ ..] if matches!(scope.word(), Some("local" | "session")) => rest,
        _ => rest,
    };
    let [name, sign, list @ ..] = rest else { return false };
    let is_sign = sign.word() == Some("to") || sign.token == SqlToken::Symbol(b'=');
    let is_set = set.word() == Some("set") && name.word() == Some("search_path") && is_sign;
    let mut schemas = list.split(|lexed| lexed.token == SqlToken::Symbol(b','));
    is_set && schemas.all(|part| matches!(part, [one] if is_safe(&text[one.at.clone()], rules)))
}

/// Whether a value with which a session begins is a list of safe schemas.
pub fn is_safe_path(value: &str, rules: &StatementRules) -> bool {
    value.split(',').all(|part| is_safe(part.trim_matches(' ').as_bytes(), rules))
}

/// Whether this is the name of a safe schema, as a word or in quotes.
fn is_safe(source: &[u8], rules: &StatementRules) -> bool {
    let within = |quote: &[u8]| source.strip_prefix(quote)?.strip_suffix(quote);
    let quoted = within(b"\"").or_else(|| within(b"'"));
    let name = match quoted {
        Some(name) => String::from_utf8_lossy(name).into_owned(),
        None => lower(source),
    };
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    // The server looks into the catalogue first, unless the path names it. `DEFAULT` is no schema.
    let is_schema = !name.starts_with("pg_") && (quoted.is_some() || name != "default");
    is_schema && !name.is_empty() && name.chars().all(is_plain) && rules.permits_schema(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_keep_the_role_since_the_minor_versions_of_november_2024() {
        for version in ["12.21", "13.17", "14.14", "15.9", "16.5", "17.1", "18.0", "19.3"] {
            assert!(keeps_role(version), "{version}");
        }
        assert!(keeps_role("15.18 (Debian 15.18-0+deb12u1)"));
        for version in [
            "12.20",
            "13.16",
            "14.13",
            "15.8",
            "16.4",
            "17.0",
            "9.6.24",
            "11.22",
            "16.4 (Debian 16.5-1)",
            "15.12-YB-2.25.0.0-b0",
            "15.12 YB",
            "17",
            "18beta1",
            "",
        ] {
            assert!(!keeps_role(version), "{version}");
        }
    }
}
