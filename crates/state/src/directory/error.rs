//! [`DirectoryError`]: why an operation of the directory fails, grouped by who must act.

use crate::crypto::envelope::EnvelopeError;
use crate::crypto::keyring::KeyId;
use crate::store::{StoreError, Table};
use keyward_model::Refusal;

/// Why the directory refuses. Names things and rows, never a token or a secret.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    // The caller must correct the request.
    /// The name is in use in the org.
    #[error("{what} `{name}` exists already: choose another name")]
    NameTaken {
        /// `agent` or `connection`.
        what: &'static str,
        name: String,
    },
    /// A spec is not valid.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A token's label out of bounds.
    #[error("the label of a token must be 1 to 64 printable characters")]
    LabelRefused,
    /// The org has no such resource.
    #[error("{what} `{name}` does not exist")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// Its id.
        name: String,
    },
    /// The configuration file owns it.
    #[error("{what} `{name}` is managed by the configuration file: change it there")]
    ManagedByFile {
        /// What kind of thing.
        what: &'static str,
        name: String,
    },
    /// The resource has changed: the condition of the caller is not met.
    #[error("{what} `{name}` has changed meanwhile: read it again")]
    Changed {
        /// What kind of thing.
        what: &'static str,
        name: String,
    },
    /// A binding across two environments.
    #[error(
        "agent `{agent}` is in environment `{agent_in}` and connection `{connection}` in `{connection_in}`: bind one of the same environment"
    )]
    EnvironmentMismatch {
        agent: String,
        agent_in: String,
        connection: String,
        connection_in: String,
    },
    /// A private connection, and an agent of another user.
    #[error(
        "connection `{connection}` is private: only agents of its owner may use it, and `{agent}` is not one"
    )]
    Private { agent: String, connection: String },
    /// A private connection without an owner.
    #[error("connection `{0}` has no owner, so it cannot be private: name one, or share it")]
    PrivateWithoutOwner(String),
    /// The limit of connect sessions.
    #[error("there are {max} connect sessions already")]
    TooManyConnectSessions {
        /// `limits.connect_sessions_max`.
        max: usize,
    },
    /// The limit of sessions.
    #[error("there are {max} sessions already")]
    TooManySessions {
        /// The limit.
        max: usize,
    },
    /// A link that is unknown, expired or used.
    #[error("the link has been used, has expired or was never made")]
    LinkUsed,
    /// A user who still owns a resource.
    #[error("user `{user}` owns {what} `{name}`: remove it or assign it to another user first")]
    UserOwns {
        /// The user's name.
        user: String,
        /// What kind of thing.
        what: &'static str,
        name: String,
    },
    /// A source that a connection or an app uses.
    #[error(
        "source `{source_name}` has values of {what} `{user}`: give its fields in another way, \
         or remove it first"
    )]
    SourceInUse {
        source_name: String,
        /// `connection` or `app`.
        what: &'static str,
        /// Its name.
        user: String,
    },
    /// An organisation that still has resources.
    #[error("organisation `{org}` has {what} `{name}`: remove everything of it first")]
    OrgInUse {
        /// Its name.
        org: String,
        /// What kind of thing.
        what: &'static str,
        name: String,
    },
    /// The default organisation cannot be removed.
    #[error("organisation `default` is always there: it cannot be removed")]
    OrgIsDefault,
    /// Another token has the same text.
    #[error("this token is in use already: choose or issue another one")]
    TokenTaken,
    /// A chosen token that is too weak or cannot be sent.
    #[error(
        "a chosen token needs 20 to 512 letters, digits or `-._~`: choose another one, or let keyward issue it"
    )]
    TokenRefused,
    /// An expiry that is not in the future.
    #[error("the token would have expired already: give a later time")]
    TokenExpired,
    /// A bound of the directory.
    #[error("there are {max} {what} already: remove some that are not used")]
    TooMany {
        /// `tokens` or `bindings`.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// A connection of another provider than the slot requires.
    #[error(
        "slot `{slot}` requires an account at `{wanted}`, and connection `{connection}` is one at `{provider}`: choose another one"
    )]
    SlotProvider {
        slot: String,
        /// The provider that the slot requires.
        wanted: String,
        connection: String,
        provider: String,
    },
    /// A slot that the manifest does not declare.
    #[error("plugin `{plugin}` has no slot `{slot}`: omit it")]
    NoSlot {
        plugin: String,
        /// The name as given.
        slot: String,
    },
    /// A manifest of another plugin.
    #[error("this is a manifest of plugin `{given}`, not of `{installed}`: install it as its own")]
    OtherPlugin {
        installed: String,
        /// The name in the manifest.
        given: String,
    },
    /// A binding that exists for a slot.
    #[error(
        "connection `{connection}` is in slot `{slot}` of plugin `{plugin}`: give the slot another one, or remove the plugin"
    )]
    BoundBySlot { connection: String, plugin: String, slot: String },
    /// An app that connections use.
    #[error("app `{app}` is used by connection `{connection}`: remove that one first")]
    AppInUse {
        app: String,
        /// The name of a connection that uses it.
        connection: String,
    },

    /// A provider that connections or apps use.
    #[error("provider `{provider}` is used by {what} `{name}`{}", remaining_uses(*.uses))]
    ProviderInUse {
        provider: String,
        /// `connection` or `app`.
        what: &'static str,
        name: String,
        /// How many connections and apps use it.
        uses: usize,
    },
    /// A field of a provider that determines where the secrets of its connections and apps are sent.
    #[error(
        "`{field}` of provider `{provider}` cannot change while {what} `{name}` uses it: it \
         decides where and in which form a secret is sent"
    )]
    ProviderBound {
        provider: String,
        /// The path in the definition.
        field: String,
        /// `connection` or `app`.
        what: &'static str,
        name: String,
    },
    /// An agent or connection that a stored rule names.
    #[error("{what} `{name}` is named by rule `{rule}`, which would not apply any more")]
    NamedByRule {
        /// `agent` or `connection`.
        what: &'static str,
        name: String,
        rule: String,
    },

    /// A connection that a stored hook names.
    #[error("connection `{connection}` is named by hook `{hook}`, which needs it")]
    NamedByHook {
        connection: String,
        /// The name of a hook that names it.
        hook: String,
    },

    // The operator must act: keys, backups.
    /// None of the given keys is the master key of the store.
    #[error(
        "the store was sealed with another master key, {sealed_by}: give that key in `master_key`"
    )]
    WrongKey {
        /// The id of the key that is missing.
        sealed_by: KeyId,
    },
    /// A newer version of Keyward has changed the format of the records.
    #[error(
        "the store has format {format}, and this version of keyward reads format {reads}: a newer version wrote it"
    )]
    Newer {
        format: u32,
        /// The format of this version.
        reads: u32,
    },
    /// The store has rows, but not the sentinel row that every store begins with.
    #[error("the store has rows but no sentinel row: restore it from a backup")]
    SentinelMissing,
    /// A row does not open.
    #[error("{table} row {key} cannot be opened: {source}")]
    Unreadable { table: &'static str, key: String, source: EnvelopeError },
    /// A row can be opened, but its content does not fit its place.
    #[error(
        "{table} row {key} does not match its table and key: restore it from a backup, or use the keyward that wrote it"
    )]
    Malformed { table: &'static str, key: String },
    /// The version in a row's content differs from that of the row.
    #[error(
        "{table} row {key} has older content than its version: restore the store from a backup"
    )]
    RolledBack { table: &'static str, key: String },
    /// Two rows claim the same unique value.
    #[error(
        "two rows claim the same {what}, {first} and {second}: restore the store from a backup"
    )]
    Twice {
        /// `name` or `token`.
        what: &'static str,
        /// One id.
        first: String,
        second: String,
    },
    /// A value cannot be sealed.
    #[error(transparent)]
    Seal(EnvelopeError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The writing task ended early, because the process is stopping.
    #[error("the change was interrupted: check whether it was made, and repeat it if not")]
    Interrupted,
}

impl DirectoryError {
    /// The remedy, unless the message has it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Newer { .. } => Some(
                "use that version, or restore a backup that this version made: `keyward restore FILE`",
            ),
            Self::TooManyConnectSessions { .. } => Some(
                "end some with `keyward connect-link revoke ID`, or raise `limits.connect_sessions_max`",
            ),
            Self::TooManySessions { .. } => {
                Some("end some with `keyward session revoke ID`, or raise `limits.sessions_max`")
            }
            Self::ProviderBound { .. } => Some(
                "remove what uses it first, or add this definition under another id and connect there",
            ),
            Self::NamedByRule { .. } => Some(
                "change the rule with `keyward rule edit`, or remove it with `keyward rule remove`",
            ),
            Self::NamedByHook { .. } => Some(
                "remove the hook with `keyward hook remove`, or name another connection in it by the API",
            ),
            _ => None,
        }
    }

    /// Whether the change that failed with this error may have been made.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Store(error) => error.is_outcome_unknown(),
            Self::Interrupted => true,
            _ => false,
        }
    }

    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(StoreError::Conflict { .. }))
    }

    /// Whether the precondition of a write of this row was not met.
    pub(super) fn is_conflict_of(&self, table: Table, key: &str) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict_of(table, key))
    }

    /// Whether the row was read, but its content cannot be used.
    pub(super) fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable { .. } | Self::Malformed { .. } | Self::RolledBack { .. })
    }

    /// Whether the store has an older row than this process has seen.
    pub(super) fn is_rolled_back(&self) -> bool {
        matches!(self, Self::Store(StoreError::RolledBack { .. }))
    }

    pub(super) fn not_found(what: &'static str, id: impl std::fmt::Display) -> Self {
        Self::NotFound { what, name: id.to_string() }
    }

    /// The result of what needs nothing more if the record was removed meanwhile.
    pub(super) fn unless_removed<T>(result: Result<T, Self>) -> Result<(), Self> {
        match result {
            Ok(_) | Err(Self::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The other uses, and the remedy.
fn remaining_uses(uses: usize) -> String {
    match uses {
        0 | 1 => ": remove that one first".to_owned(),
        uses => format!(" and {} more: remove them first", uses - 1),
    }
}
