//! Host and path patterns, used by rules, providers and placements, and the decoded path that they match.
//! Patterns are parsed once, when configuration or provider data is read; matching allocates nothing.

mod host;
mod path;

pub use host::HostPattern;
pub use path::{DecodedPath, LetterCase, PathError, PathPattern, mask};

/// Text that is not a valid pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PatternError {
    /// Neither a host nor `*.suffix`.
    #[error(
        "`{0}` is not a host pattern: write `api.example.com`, `*.example.com` or \
         `api.example.com:8443`"
    )]
    Host(String),
    /// A wildcard over a public suffix, such as `*.com` or `*.github.io`.
    #[error("`{0}` covers a public suffix: name a registrable domain, such as `*.example.com`")]
    PublicSuffix(String),
    /// Text that is not an absolute path pattern.
    #[error(
        "`{0}` is not a path pattern: begin with `/`; `*` means one segment or a part of it, and \
         `**`, as a whole segment, any number of them"
    )]
    Path(String),
    /// A pattern that no decoded path can match, because of escapes, dot segments or a query.
    #[error(
        "`{0}` can never match: write paths decoded, without dot segments, empty segments, \
         backslashes, `;`, `?` or `#`"
    )]
    Unmatchable(String),
}
