//! Bodies of requests and answers as they arrive, and the request body on its way to the upstream.

pub mod body_error;
mod copy_writer;
pub mod counted_body;
pub mod expect_continue;
pub mod form_upload;
pub mod http1_upload;
pub mod http2_body;
pub mod http2_upload;
pub mod incoming_body;
pub mod replay;
pub mod request_body;
pub mod signed_chunks;
pub mod trailer_filter;
