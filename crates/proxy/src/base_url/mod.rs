//! Base URLs, for programs that cannot use a proxy. `http://ADDRESS/to/CONNECTION/…` and
//! `http://CONNECTION.localhost/…` mean `https://HOST/…`, where HOST is the host of that connection.
//!
//! This room parses base URLs. `streams/base_url_requests.rs` serves requests that use one.

mod address;
mod error;
mod target;

pub use address::{BaseUrl, ServedBaseUrls};
pub use error::BaseUrlError;
pub use target::target;
