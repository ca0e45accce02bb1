//! [`FormError`]: why the variables of a connection are invalid.

use keyward_base::pattern::PatternError;

/// Why variables or fields are invalid.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FormError {
    /// A variable of the hosts is missing.
    #[error("`{name}` ({label}) is missing: give it with the connection's `variables`")]
    Missing {
        name: String,
        /// The variable's label.
        label: String,
    },
    /// The provider does not have the variable.
    #[error("provider `{provider}` has no variable `{name}`")]
    Unknown { provider: String, name: String },
    /// The value is not a single DNS label.
    #[error("`{name}` must be one label of letters, digits and hyphens, such as `{example}`")]
    Label {
        name: String,
        /// An example of a value.
        example: String,
    },
    /// The value does not name servers.
    #[error("`{name}` must be {must}")]
    Servers {
        name: String,
        /// The values that it accepts.
        must: &'static str,
    },
    /// The value is not a host.
    #[error("`{name}` must be a host name, optionally with port, such as `{example}`")]
    Host {
        name: String,
        /// An example of a value.
        example: String,
    },
    /// The value has reserved URL characters.
    #[error("`{name}` must be letters, digits, `-`, `.`, `_` or `~`, up to 255")]
    Text { name: String },
    /// The value is not one of the choices.
    #[error("`{name}` must be one of {choices}")]
    Choice {
        name: String,
        /// The allowed values.
        choices: String,
    },
    /// The database of a protocol whose databases have numbers.
    #[error("`{name}` must be a number, such as 0")]
    Number {
        /// The variable.
        name: String,
    },
    /// A filled-in host is not a pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl FormError {
    /// An error for a value that is not a list of hosts.
    pub(super) fn not_hosts(name: String) -> Self {
        let must =
            "at most 15 hosts, separated by commas, such as `b.example.com,c.example.com:27018`";
        Self::Servers { name, must }
    }
}
