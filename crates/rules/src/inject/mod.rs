//! Injection into requests: placements, credentials, placeholders, stripping and writing; and scrubbing of
//! responses.

pub mod body;
pub mod credential;
pub mod json_template;
pub mod multipart;
pub mod named_resources;
pub mod names;
pub mod own_authorization;
pub mod path_prefix;
pub mod placeholder;
pub mod placement;
pub mod scrub;
pub mod sign;
pub mod steering;
pub mod strip;
pub mod template;
pub mod write;
