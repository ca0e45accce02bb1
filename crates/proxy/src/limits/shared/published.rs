//! What a replica publishes about its buckets: one text for all of them, which replaces the one before.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use keyward_base::settings::Rate;

/// What a limit counts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitSpace {
    /// Requests with a connection.
    Connections,
    /// Failed authentications at the proxy, by address.
    AgentTokens,
    /// Failed authentications at the API, by address.
    ApiTokens,
    /// Requests to the API, by token or login.
    ApiRequests,
    /// Links that do not work, by address.
    SignInLinks,
    /// Passwords and one-time codes, by address and by user.
    SignIns,
}

/// A bucket within its space: a keyed hash of what it counts.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct LimitId(u128);

/// All buckets of a replica from which requests were taken and that are not full again.
#[derive(Debug, Serialize)]
pub(super) struct Published {
    pub(super) buckets: Vec<PublishedBucket>,
}

/// The same, as it is read: another version of Keyward may have other spaces.
#[derive(Deserialize)]
struct ReadCounts {
    buckets: Vec<serde_json::Value>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct PublishedBucket {
    pub(super) space: LimitSpace,
    pub(super) id: LimitId,
    /// Changes when `own` begins at 0 again.
    pub(super) generation: u32,
    /// Requests that this replica allowed.
    pub(super) own: u32,
    /// In this time the bucket is full again, with the requests of all replicas that are known to this one.
    pub(super) used_ms: u64,
    #[serde(with = "as_text")]
    pub(super) rate: Rate,
}

impl Published {
    /// The buckets that this version knows.
    pub(super) fn read(bytes: &[u8]) -> Option<Vec<PublishedBucket>> {
        let ReadCounts { buckets } = serde_json::from_slice(bytes).ok()?;
        Some(buckets.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect())
    }
}

impl LimitSpace {
    /// All spaces, in the order of their declaration.
    pub const ALL: [Self; 6] = [
        Self::Connections,
        Self::AgentTokens,
        Self::ApiTokens,
        Self::ApiRequests,
        Self::SignInLinks,
        Self::SignIns,
    ];

    /// The most buckets in memory; the one that was used longest ago is forgotten first. Agents cannot add connections, so
    /// those need no limit.
    pub(super) fn buckets_max(self) -> Option<usize> {
        match self {
            Self::Connections => None,
            Self::AgentTokens | Self::ApiTokens | Self::ApiRequests | Self::SignInLinks => {
                Some(4_096)
            }
            Self::SignIns => Some(8_192),
        }
    }
}

impl LimitId {
    /// Of the first half of a hash.
    pub(super) fn of(digest: &[u8; 32]) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        Self(u128::from_be_bytes(half))
    }
}

/// JSON has no numbers of this size.
impl Serialize for LimitId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{:032x}", self.0))
    }
}

impl<'de> Deserialize<'de> for LimitId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

mod as_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(rate: &Rate, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(rate)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Rate, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}
