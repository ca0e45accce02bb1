//! [`ExchangeUse`]: the properties of one exchange that are counted.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use keyward_base::codes::Code;
use keyward_base::id::{AgentId, ConnectionId, OrgId, TokenId};
use keyward_rules::rate_limit::StatedLimit;

/// The counted properties of one exchange.
#[derive(Debug, Default)]
pub struct ExchangeUse<'a> {
    /// The organisation of the agent or person.
    pub org: Option<&'a OrgId>,
    /// The permitted connection.
    pub connection: Option<&'a ConnectionId>,
    /// The agent; `None` for a person.
    pub agent: Option<&'a AgentId>,
    /// The token used for authentication.
    pub token: Option<&'a TokenId>,
    /// When it began.
    pub at: Timestamp,
    /// The status of the response.
    pub status: Option<u16>,
    /// The code, if Keyward refused.
    pub code: Option<Code>,
    /// Whether it ended before the end of the response, without a refusal.
    pub aborted: bool,
    /// Time until the upstream's response began.
    pub waited: Option<Duration>,
    /// Body bytes from the agent, and to it.
    pub bytes: (u64, u64),
    /// The provider's rate limit, from the response.
    pub limit: Option<Remaining>,
}

/// A provider's rate limit, as its response reports it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Remaining {
    /// What it reports.
    #[serde(flatten)]
    pub stated: StatedLimit,
    /// When it was reported.
    pub at: Timestamp,
}

impl ExchangeUse<'_> {
    /// An exchange with only its start time.
    #[cfg(test)]
    pub(crate) fn begun(at: Timestamp) -> Self {
        Self { at, ..Self::default() }
    }
}

impl Remaining {
    /// The limit that was reported last.
    pub(super) fn newer(own: Option<Self>, other: Option<Self>) -> Option<Self> {
        let at = |it: Option<Self>| it.map(|it| it.at);
        if at(other) > at(own) { other } else { own }
    }
}
