//! Background job for scheduled backups: writes one when the last is old enough, and deletes those over the number that
//! stays. What was written before a restart is found by the names of the files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::config::Config;
use keyward_backup::{
    BackupPart, Backups, BegunBackup, Encryption, Recipient, Schedule, StagedFile, WrittenBackup,
    file_name, time_of,
};
use keyward_base::time::Clock;
use keyward_proxy::ca::authority::{Authority, CaPems};
use keyward_state::directory::Directory;
use keyward_state::observe::metrics::Metrics;

/// How often the schedule is looked at, which a reload may have changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The pause after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(300);

/// The parts of a backup that are the CA.
pub(super) const CA_CERT_PART: &str = "ca.pem";
pub(super) const CA_KEY_PART: &str = "ca.key";

/// Takes backups of these services.
pub(super) fn of(
    config: &Config,
    directory: &Arc<Directory>,
    authority: &Arc<Authority>,
    clock: &Clock,
) -> Arc<Backups> {
    let authority = authority.clone();
    let parts = move || parts(&authority);
    Arc::new(Backups::new(directory.clone(), parts, clock.clone(), config.backup.clone()))
}

/// The CA's files. A CA in memory is not part of the state.
fn parts(authority: &Authority) -> Result<Vec<BackupPart>, String> {
    let pems = authority.export().map_err(|error| error.to_string())?;
    let parts = pems.into_iter().flat_map(|CaPems { cert, key }| {
        [(CA_CERT_PART, Zeroizing::new(cert)), (CA_KEY_PART, key)]
    });
    Ok(parts.map(|(name, content)| BackupPart { name: name.to_owned(), content }).collect())
}

pub(super) struct BackupJob {
    pub(super) backups: Arc<Backups>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
}

impl BackupJob {
    /// Writes backups until it is dropped. A file that was begun is removed then.
    pub(super) async fn run(self) {
        let mut retry_at: Option<Timestamp> = None;
        loop {
            let settings = self.backups.settings();
            if let Some(schedule) = &settings.schedule {
                let now = self.clock.now();
                let is_pausing = retry_at.is_some_and(|at| now < at);
                if !is_pausing && self.is_due(schedule, now) {
                    let written = self.write(schedule, &settings.recipients).await;
                    retry_at = written.is_err().then(|| now + RETRY_AFTER);
                    self.tell(written);
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether the last file is old enough for a new backup. Reports that file as the last backup, even if another
    /// process wrote it.
    fn is_due(&self, schedule: &Schedule, now: Timestamp) -> bool {
        let Some((created, file)) = written(&schedule.to).into_iter().next_back() else {
            return true;
        };
        if self.backups.scheduled().last.is_none() {
            let bytes = fs::metadata(schedule.to.join(&file)).map_or(0, |about| about.len());
            self.metrics.backups.succeeded(created);
            self.backups.set_scheduled(Ok(WrittenBackup { file, created, bytes }));
        }
        // A file from the future, after the clock was set back, does not stop backups.
        now.duration_since(created).unsigned_abs() >= schedule.every
    }

    async fn write(
        &self,
        schedule: &Schedule,
        recipients: &[Recipient],
    ) -> anyhow::Result<WrittenBackup> {
        let begun = self.backups.begin().await?;
        let (schedule, recipients) = (schedule.clone(), recipients.to_vec());
        let encryption = Encryption::Recipients(recipients);
        let write = move || write(&begun, &schedule, &encryption);
        tokio::task::spawn_blocking(write).await?
    }

    fn tell(&self, written: anyhow::Result<WrittenBackup>) {
        match written {
            Ok(written) => {
                let WrittenBackup { file, bytes, created } = &written;
                tracing::info!(
                    id = "backup_written",
                    file,
                    bytes,
                    "a scheduled backup was written"
                );
                self.metrics.backups.succeeded(*created);
                self.backups.set_scheduled(Ok(written));
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(
                    id = "backup_failed",
                    error,
                    "a scheduled backup failed: it is tried again in five minutes"
                );
                self.metrics.backups.failed();
                self.backups.set_scheduled(Err((self.clock.now(), error)));
            }
        }
    }
}

/// Writes the file, then deletes old ones: at no time are there fewer than before.
fn write(
    begun: &BegunBackup,
    schedule: &Schedule,
    encryption: &Encryption,
) -> anyhow::Result<WrittenBackup> {
    let Schedule { to, keep, .. } = schedule;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(to);
    made.with_context(|| format!("cannot create {}", to.display()))?;
    let (created, file) = (begun.created(), file_name(begun.created()));
    let path = to.join(&file);
    let written = || -> anyhow::Result<u64> {
        let staged = StagedFile::beside(&path)?;
        Ok(begun.write(encryption, staged)?.publish()?)
    };
    let bytes = written().with_context(|| format!("cannot write {}", path.display()))?;
    let all = self::written(to);
    let old = all.values().rev().skip(*keep).cloned();
    for old in old.chain(begun_before(to, created)) {
        let old = to.join(old);
        if let Err(error) = fs::remove_file(&old)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %old.display(), %error, "an old backup stays");
        }
    }
    Ok(WrittenBackup { file, created, bytes })
}

/// The backups in a folder, the oldest first: files with a name that this job gives.
pub fn written(folder: &Path) -> BTreeMap<Timestamp, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| time_of(&name).map(|time| (time, name))).collect()
}

/// Files of this job that a killed process did not finish.
fn begun_before(folder: &Path, now: Timestamp) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_old = |name: &String| {
        let staged = name.strip_prefix('.').and_then(|name| name.rsplit_once('.'));
        let process = staged.filter(|(_, process)| process.parse::<u32>().is_ok());
        process.and_then(|(name, _)| time_of(name)).is_some_and(|time| time < now)
    };
    names.filter(is_old).collect()
}
