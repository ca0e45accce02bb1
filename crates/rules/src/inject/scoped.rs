//! A value that applies to some hosts and paths.

use keyward_base::host::Target;
use keyward_base::pattern::{DecodedPath, HostPattern, PathPattern};

/// A value that applies to some hosts and paths; an empty list means all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scoped<T> {
    /// The hosts, a subset of the provider's.
    pub hosts: Vec<HostPattern>,
    /// The decoded paths.
    pub paths: Vec<PathPattern>,
    /// The value that applies there.
    pub what: T,
}

impl<T> Scoped<T> {
    /// Whether this entry applies to the target and path.
    pub fn matches(&self, target: &Target, path: &DecodedPath) -> bool {
        (self.hosts.is_empty() || self.hosts.iter().any(|host| host.matches(target)))
            && (self.paths.is_empty() || self.paths.iter().any(|pattern| pattern.matches(path)))
    }
}
