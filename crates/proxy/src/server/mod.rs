//! HTTP servers on agents' streams: HTTP/1.1 by hyper, HTTP/2 by h2.

pub mod h1;
pub mod h2;
pub mod h2_request;
pub mod linger;
