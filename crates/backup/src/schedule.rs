//! When backups are written, and the names of their files.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::encryption::Recipient;

const PREFIX: &str = "keyward-";
const SUFFIX: &str = ".age";
/// Sorted by name, files are sorted by time.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// The section `backup:` of the configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BackupSettings {
    /// Who can open backups that are scheduled, or that users download.
    pub recipients: Vec<Recipient>,
    /// `None`: only commands and requests write backups.
    pub schedule: Option<Schedule>,
}

/// When backups are written, where, and how many stay.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Schedule {
    /// The time from one to the next.
    pub every: Duration,
    /// The folder.
    pub to: PathBuf,
    /// The number of files that stay; older ones are deleted.
    pub keep: usize,
}

/// The name of a backup's file: `keyward-20260102T030405Z.age`.
pub fn file_name(created: Timestamp) -> String {
    let time = created.to_zoned(TimeZone::UTC).strftime(TIME);
    format!("{PREFIX}{time}{SUFFIX}")
}

/// The time in a [`file_name`]; `None` for other files.
pub fn time_of(name: &str) -> Option<Timestamp> {
    let time = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let time = jiff::civil::DateTime::strptime(TIME, time).ok()?;
    let time = time.to_zoned(TimeZone::UTC).ok()?.timestamp();
    (file_name(time) == name).then_some(time)
}
