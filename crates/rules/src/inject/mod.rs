//! What is put into a request, and how: placements, credentials, placeholders, stripping, writing; and
//! how it is kept out of the answer.

pub mod body;
pub mod credential;
pub mod path_prefix;
pub mod placeholder;
pub mod placement;
pub mod scrub;
pub mod steering;
pub mod strip;
pub mod write;
