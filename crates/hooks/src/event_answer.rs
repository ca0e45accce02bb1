//! [`EventAnswer`]: how a service expects that its events are answered.

use serde::Deserialize;

/// The form of the answer to an accepted event. Services that expect no body get none with a refusal either.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum EventAnswer {
    /// 200 with the id of the event, for services that ignore the body.
    #[default]
    Json,
    /// 200 without a body.
    Empty,
    /// 204.
    NoContent,
}
