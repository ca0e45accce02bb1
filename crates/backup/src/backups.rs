//! [`Backups`]: takes backups of the running services, one at a time, and keeps the results of scheduled backups; when
//! backups are written ([`Schedule`]), and the names of their files.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::encryption::{Encryption, Recipient};
use super::error::WriteError;
use super::frame::BackupPart;
use super::read::{BackupContent, write};
use keyward_base::time::Clock;
use keyward_state::directory::Directory;

const PREFIX: &str = "keyward-";
const SUFFIX: &str = ".age";
/// Sorted by name, files are sorted by time.
const TIME: &str = "%Y%m%dT%H%M%SZ";

pub struct Backups {
    directory: Arc<Directory>,
    /// Reads the files that a backup contains in addition to the store. Blocks; its error is a message for users.
    parts: Arc<dyn Fn() -> Result<Vec<BackupPart>, String> + Send + Sync>,
    clock: Clock,
    settings: ArcSwap<BackupSettings>,
    /// Allows one backup at a time, because each holds all sealed rows in memory, and scrypt needs much memory
    /// too.
    turn: Arc<Semaphore>,
    scheduled: Mutex<ScheduledBackups>,
}

/// How the scheduled backups went.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ScheduledBackups {
    pub last: Option<WrittenBackup>,
    /// Why the last attempt failed, and when; `None` if it succeeded.
    pub failure: Option<(Timestamp, String)>,
}

/// A file that a schedule wrote.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WrittenBackup {
    /// The name of the file.
    pub file: String,
    /// When the rows were read.
    pub created: Timestamp,
    /// Its length.
    pub bytes: u64,
}

/// A backup whose rows were read and are not written yet.
#[derive(Debug)]
pub struct BegunBackup {
    content: BackupContent,
    _turn: OwnedSemaphorePermit,
}

impl Backups {
    /// Takes backups of the directory's store and of what `parts` reads, which may block.
    pub fn new(
        directory: Arc<Directory>,
        parts: impl Fn() -> Result<Vec<BackupPart>, String> + Send + Sync + 'static,
        clock: Clock,
        settings: BackupSettings,
    ) -> Self {
        Self {
            directory,
            parts: Arc::new(parts),
            clock,
            settings: ArcSwap::from_pointee(settings),
            turn: Arc::new(Semaphore::new(1)),
            scheduled: Mutex::default(),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<BackupSettings> {
        self.settings.load_full()
    }

    pub fn set(&self, settings: BackupSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// How the scheduled backups went.
    pub fn scheduled(&self) -> ScheduledBackups {
        self.scheduled.lock().clone()
    }

    /// Sets how a scheduled backup went.
    pub fn set_scheduled(&self, result: Result<WrittenBackup, (Timestamp, String)>) {
        let mut scheduled = self.scheduled.lock();
        match result {
            Ok(last) => *scheduled = ScheduledBackups { last: Some(last), failure: None },
            Err(failure) => scheduled.failure = Some(failure),
        }
    }

    /// Reads all rows as of now, and opens each once, so that a row that does not open is found before anything is
    /// written. Waits for a backup in progress.
    ///
    /// # Errors
    /// When a row or the CA cannot be read.
    pub async fn begin(&self) -> Result<BegunBackup, WriteError> {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.map_err(|_| WriteError::Interrupted)?;
        let created = whole_second(self.clock.now());
        let state = self.directory.snapshot().await?;
        let parts = Arc::clone(&self.parts);
        let content = tokio::task::spawn_blocking(move || {
            let parts = parts().map_err(WriteError::Part)?;
            let content = BackupContent { state, parts, created };
            content.check()?;
            Ok::<_, WriteError>(content)
        });
        let content = content.await.map_err(|_| WriteError::Interrupted)??;
        Ok(BegunBackup { content, _turn: turn })
    }
}

/// Truncates to whole seconds, as file names do. So the time that is shown stays the same after a restart.
fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

impl fmt::Debug for Backups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backups").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl BegunBackup {
    /// When its rows were read.
    pub fn created(&self) -> Timestamp {
        self.content.created
    }

    /// Writes it. Blocks.
    ///
    /// # Errors
    /// As [`write`].
    pub fn write<W: Write>(&self, encryption: &Encryption, out: W) -> Result<W, WriteError> {
        write(&self.content, encryption, out)
    }
}

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
