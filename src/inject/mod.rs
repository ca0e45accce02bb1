//! What is put into a request, and how: placements, credentials, placeholders, stripping, writing.

pub mod credential;
pub mod placeholder;
pub mod placement;
pub mod strip;
pub mod write;
