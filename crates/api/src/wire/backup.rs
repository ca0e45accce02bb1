//! The JSON of backups: their recipients, and the results of scheduled ones.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_model::SecretText;

/// How a backup is encrypted. Without a member: for the `recipients` of the configuration. Only the operator may
/// choose others.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackupOptions {
    /// age recipients, `age1…`: each can open it.
    pub recipients: Vec<String>,
    /// A passphrase, instead of recipients.
    pub passphrase: Option<SecretText>,
}

/// Backups by the configuration.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct BackupView {
    /// Who can open them.
    pub recipients: Vec<String>,
    /// The time from one scheduled backup to the next; absent: none is scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// The folder of scheduled backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// How many of their files stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<usize>,
    /// The last scheduled backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<ScheduledBackup>,
    /// Since the last attempt failed: when that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Timestamp>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A file that a schedule wrote.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ScheduledBackup {
    /// The name of the file.
    pub file: String,
    /// When the state was as it is in it.
    pub created: Timestamp,
    /// Its length.
    pub bytes: u64,
}
