//! [`ImportCandidate`]: a value of a source that may be a key, with what the source says about it.

use std::ops::Range;

use zeroize::Zeroizing;

use crate::cli::terminal::secret::Typed;
use keyward_rules::inject::placeholder;

/// How `keyward connect` takes a user name with a password.
pub(super) const BASIC: &str = "--basic";

/// How variables begin whose names end with a host: `_` stands for its dots, `__` for its hyphens.
const NAMES_WITH_HOST: [&str; 1] = ["TF_TOKEN_"];

/// A value that may be a key.
#[derive(Debug)]
pub(super) struct ImportCandidate {
    /// Where it is: `.env:3`.
    pub(super) place: String,
    /// Values of one group may be fields of one account: a file, a profile.
    pub(super) group: String,
    /// The variable that has it, or that programs read it from.
    pub(super) variable: Option<String>,
    pub(super) host: Option<String>,
    /// The user name that belongs to it.
    pub(super) user: Option<String>,
    /// The provider, where the source has keys of one only.
    pub(super) provider: Option<&'static str>,
    pub(super) value: Typed,
    /// Whether only a provider of the host may get it.
    pub(super) only_host: bool,
    /// The option of `keyward connect` that describes its place in requests, where that is not a bearer token.
    pub(super) option: Option<String>,
    /// Where the value is in its file of variables.
    pub(super) at: Option<Range<usize>>,
}

#[derive(Debug, Default)]
pub(super) struct SourceContent {
    pub(super) candidates: Vec<ImportCandidate>,
    /// Accounts that cannot be imported, with the reason.
    pub(super) unusable: Vec<(String, String)>,
    /// The text of a file whose values become placeholders.
    pub(super) text: Option<Zeroizing<String>>,
}

impl ImportCandidate {
    pub(super) fn of(place: String, group: &str, value: &str) -> Self {
        Self {
            place,
            group: group.to_owned(),
            variable: None,
            host: None,
            user: None,
            provider: None,
            only_host: false,
            option: None,
            value: Typed::from(value.to_owned()),
            at: None,
        }
    }

    pub(super) fn in_variable(place: String, group: &str, name: &str, value: &str) -> Self {
        let host = NAMES_WITH_HOST.iter().find_map(|beginning| name.strip_prefix(beginning));
        let host = host.map(|host| host.replace("__", "-").replace('_', ".").to_ascii_lowercase());
        Self { variable: Some(name.to_owned()), host, ..Self::of(place, group, value) }
    }

    /// Whether it has a placeholder of Keyward.
    pub(super) fn has_placeholder(&self) -> bool {
        !placeholder::scan(self.value.text().as_bytes()).is_empty()
    }
}
