//! Read-only sessions. The server itself refuses writes, because the session begins with
//! `default_transaction_read_only`. Here the ways out of that are closed: statements that would unset it are replaced by
//! one that fails (`filter.rs`), and a session in which it is unset nevertheless ends (`watch.rs`). Before the agent gets
//! the session, the server says that it is read-only (`confirm.rs`).
//!
//! What a function of the database does is invisible here. A role with the right to read alone is the stronger limit.

mod confirm;
pub mod filter;
mod lexer;
mod statement;
pub mod watch;

pub use confirm::confirm;

/// Whether texts of the encoding are read here as by the server. In others a byte of a character may look like a quote's
/// escape. The server's own encodings have no such characters.
pub fn is_safe_encoding(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    matches!(&*name.to_ascii_lowercase(), "utf8" | "unicode" | "sqlascii" | "latin1" | "iso88591")
}
