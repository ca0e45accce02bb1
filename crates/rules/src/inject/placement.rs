//! Placements: where a credential is written, with the template of its value; and [`Scoped`]: a value that applies to
//! some hosts and paths.

use http::HeaderName;
use serde::Deserialize;

use super::body::BodyPath;
use super::path_prefix::PathPrefix;
use super::template::ValueTemplate;
use keyward_base::host::Target;
use keyward_base::pattern::{DecodedPath, HostPattern, PathPattern};

/// A place in a request.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Location {
    Header(HeaderName),
    /// A query parameter, by decoded name.
    Query(Box<str>),
    /// Whole query parameters, such as those of a signed URL, as the owner has them.
    QueryString,
    /// A cookie, by name.
    Cookie(Box<str>),
    /// The beginning of the path; the template is the whole prefix, such as `/bot{api_key}/`.
    Path(PathPrefix),
    /// A member of a JSON body, or a field of a form.
    Body(BodyPath),
    /// A signature over the request, which `sign` makes; the value is what the signature names.
    Signature,
    /// A part of a database login. It is never written into an HTTP request.
    Login(LoginPart),
}

/// A part of a database login.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum LoginPart {
    User,
    Password,
    /// How both are presented, in protocols with several ways.
    Scheme,
}

/// A place in the request, with the template of its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The place in the request.
    pub at: Location,
    pub value: ValueTemplate,
}

impl Location {
    /// Whether both places cannot be written in one request.
    pub fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Body(path), Self::Body(other)) => path.collides(other),
            (Self::Path(_), Self::Path(_)) => true,
            _ => self == other,
        }
    }
}

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
