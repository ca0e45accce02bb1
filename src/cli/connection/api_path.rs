//! The path of a connection in the API.

use crate::cli::client::segment;

/// The path of a connection.
pub(in crate::cli) fn path(name: &str) -> String {
    format!("/api/v1/connections/{}", segment(name))
}
