//! [`Credential`]: what may be injected now. Made by `grant/`, kept by `vault/`, used by `proxy/`.

use std::sync::Arc;

use http::HeaderName;
use jiff::Timestamp;

use super::placement::{At, Place};
use super::scrub::Needles;
use super::strip::is_alias;
use keyward_base::host::Target;
use keyward_base::id::ConnectionId;
use keyward_base::pattern::{DecodedPath, HostPattern, PathPattern};
use keyward_base::secret::Secret;
use keyward_base::settings::Settings;

/// The connection whose credential a permit asks for: made by `policy/`, answered by `vault/`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// Its id.
    pub connection: ConnectionId,
    /// Its name, for messages.
    pub name: Arc<str>,
    /// How its requests are sent; `None`: as all others.
    pub settings: Option<Arc<Settings>>,
}

/// The writes for some hosts and paths; empty lists mean all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scoped<T> {
    /// Hosts, of those of the provider.
    pub hosts: Vec<HostPattern>,
    /// Decoded paths.
    pub paths: Vec<PathPattern>,
    /// What applies there.
    pub what: T,
}

/// A rendered write.
#[derive(Clone, Debug)]
pub struct Write {
    /// Where it goes.
    pub at: At,
    /// The whole value of that place.
    pub value: Secret,
}

/// Fields that any way of authenticating at the provider uses: all of them are removed from what
/// the agent sent before a credential is written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Clears {
    /// Header fields.
    pub headers: Vec<HeaderName>,
    /// Query parameters.
    pub queries: Vec<Box<str>>,
    /// Cookies.
    pub cookies: Vec<Box<str>>,
}

/// What helps when the upstream says that a credential has expired: a newer one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Renews {
    /// Whether a request that may change something is sent again too.
    pub unsafe_too: bool,
    /// The status of an answer that may mean 401, where its body says so.
    pub expired_status: Option<u16>,
}

/// Live authentication material with its placements.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Whose it is.
    pub connection: ConnectionId,
    /// One more at every change of the grant or the token.
    pub generation: u64,
    /// When it stops working, if known.
    pub expires: Option<Timestamp>,
    /// First match by host and path decides.
    pub writes: Vec<Scoped<Vec<Write>>>,
    /// What is removed first.
    pub clears: Clears,
    /// What must not be in the answer.
    pub needles: Arc<Needles>,
    /// Whether there are newer ones when it is refused.
    pub renews: Option<Renews>,
}

impl<T> Scoped<T> {
    /// Whether this entry is meant for the target and path.
    pub fn matches(&self, target: &Target, path: &DecodedPath) -> bool {
        (self.hosts.is_empty() || self.hosts.iter().any(|host| host.matches(target)))
            && (self.paths.is_empty() || self.paths.iter().any(|pattern| pattern.matches(path)))
    }
}

impl Clears {
    /// Whether a field of this name is cleared, in any of its spellings.
    pub fn covers(&self, name: &HeaderName) -> bool {
        self.headers.iter().any(|gone| is_alias(name, gone))
    }

    /// Adds the fields that `places` write.
    pub fn add(&mut self, places: &[Place]) {
        for place in places {
            match &place.at {
                At::Header(name) if !self.headers.contains(name) => self.headers.push(name.clone()),
                At::Query(name) if !self.queries.contains(name) => self.queries.push(name.clone()),
                At::Cookie(name) if !self.cookies.contains(name) => self.cookies.push(name.clone()),
                _ => {}
            }
        }
    }
}
