//! Sessions whose statements are read: read-only ones, and those with rules on statements.
//!
//! ```text
//! lexer        tokens, as the server finds them
//! check        what a session keeps, and which statements would change that
//! read_only    which statements only read
//! search_path  the search path where rules name tables
//! kept_role    whether a server ends the role of a session with its user
//! filter       replaces refused statements by one that fails
//! confirm      asks the server whether the session begins as it should
//! ```
//!
//! The server itself refuses writes in a read-only session, because it begins with `default_transaction_read_only`. `check.rs`
//! refuses statements that would unset it, and a session in which it is unset nevertheless ends (`answers.rs`).
//!
//! What a function of the database does is invisible here. A role with few rights is the stronger limit.

pub mod check;
mod confirm;
pub mod filter;
mod kept_role;
mod lexer;
mod read_only;
mod search_path;

pub use confirm::{SessionMode, confirm};
pub use kept_role::keeps_role;
#[cfg(test)]
pub use lexer::tokens;
pub use search_path::is_safe_path;

/// Whether texts of the encoding are read here as by the server. In others a byte of a character may look like a quote's
/// escape. The server's own encodings have no such characters.
pub fn is_safe_encoding(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    matches!(&*name.to_ascii_lowercase(), "utf8" | "unicode" | "sqlascii" | "latin1" | "iso88591")
}
