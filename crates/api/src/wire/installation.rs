//! The JSON of what the installation has: the index of the API, the certificate authority, master keys, checks of
//! the store, and backups.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_model::SecretText;
use keyward_state::directory::StoreCheck;

pub use keyward_proxy::ca::authority::{
    CertificateInfo as CertificateView, Role as CertificateRole,
};
pub use keyward_state::directory::{FaultKind as StoreFaultKind, StoreFault as StoreFaultView};

/// The CA in use.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct CaView {
    /// SHA-256 of the current certificate.
    pub fingerprint: String,
    /// When it ends.
    pub expires: Timestamp,
    /// Until when clients of the CA before are served; `null`: there is none before.
    pub overlap_until: Option<Timestamp>,
    /// Whether Keyward made it, and so can rotate it.
    pub made_here: bool,
    /// What the operator should do soon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
    /// The current certificate first.
    pub certificates: Vec<CertificateView>,
    /// What clients are to trust: `/ca.pem`.
    pub pem: String,
}

/// How the CA is replaced.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RotateCa {
    /// How long clients of the present one are served, `30d`, at most until its end; 30 days when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// No overlap: the present one may be compromised.
    #[serde(default)]
    pub no_overlap: bool,
}

/// A master key.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct KeyView {
    /// 16 hex digits.
    pub id: String,
    /// Whether it seals what is written.
    pub current: bool,
    /// Where it was read from; absent: it was not given, and its rows cannot be opened.
    pub source: Option<KeySourceView>,
    /// Rows of the store that it wraps.
    pub rows: u64,
}

/// Where a master key was read from.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct KeySourceView {
    /// `file`, `env`, `command` or `memory`.
    pub kind: KeySourceKind,
    /// The file, the variable, or the program; empty for `memory`.
    pub name: String,
}

/// The kind of source that held the key.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySourceKind {
    /// A file.
    File,
    /// An environment variable.
    Env,
    /// A command.
    Command,
    /// Nothing: the key ends with the process.
    Memory,
}

/// What a rotation did.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct KeyRotated {
    /// The key that wraps every row now.
    pub current: String,
    /// Where it was read from, or is kept now.
    pub source: KeySourceView,
    /// Whether it was made for this rotation; `false`: it was there before.
    pub made: bool,
    /// Keys that were destroyed.
    pub retired: Vec<String>,
    /// Sources that are not needed any more: they can be removed from `master_key`.
    pub unneeded: Vec<KeySourceView>,
    /// Rows that were wrapped again, with the current key.
    pub rewrapped: u64,
    /// All rows.
    pub rows: u64,
}

/// Faults that an answer lists.
const FAULTS_MAX: usize = 1_000;

/// What a check of all rows and indexes found.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct StoreCheckView {
    /// The number of rows.
    pub rows: usize,
    /// What is wrong, leftovers last.
    pub faults: Vec<StoreFaultView>,
    /// The number of further faults, which are not listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: usize,
}

impl StoreCheckView {
    /// The number of faults, without leftovers.
    pub fn fault_count(&self) -> usize {
        let faults = self.faults.iter().filter(|it| it.kind != StoreFaultKind::Leftover).count();
        // Leftovers are the last: with one in the list, the rest is of them.
        faults + if faults == self.faults.len() { self.more } else { 0 }
    }

    /// The number of leftovers that are listed.
    pub fn leftover_count(&self) -> usize {
        self.faults.iter().filter(|it| it.kind == StoreFaultKind::Leftover).count()
    }
}

impl From<StoreCheck> for StoreCheckView {
    fn from(check: StoreCheck) -> Self {
        let mut faults = check.faults;
        faults.sort_by_key(|fault| fault.kind == StoreFaultKind::Leftover);
        let more = faults.len().saturating_sub(FAULTS_MAX);
        faults.truncate(FAULTS_MAX);
        Self { rows: check.rows, faults, more }
    }
}

fn is_zero(more: &usize) -> bool {
    *more == 0
}

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

/// Where the parts of the API are.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ApiIndex {
    /// The version of the gateway.
    pub version: String,
    /// The description of the API.
    pub openapi: String,
    /// Who asks.
    pub caller: String,
    pub status: String,
    /// The path of each collection, by its name.
    pub collections: BTreeMap<String, String>,
}
