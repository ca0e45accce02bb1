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
use jiff::{SignedDuration, Timestamp};
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

/// How far the time of a file may be ahead of the clock: replicas that share a folder have clocks of their own.
const CLOCK_SKEW_MAX: SignedDuration = SignedDuration::from_secs(300);

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
        let Some((created, file)) = written(&schedule.to, now).pop_last() else {
            return true;
        };
        if self.backups.scheduled().last.is_none() {
            let bytes = fs::metadata(schedule.to.join(&file)).map_or(0, |about| about.len());
            self.metrics.backups.succeeded(created);
            self.backups.set_scheduled(Ok(WrittenBackup { file, created, bytes }));
        }
        is_old_enough(created, schedule.every, now)
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

/// Whether the next backup is due after one of this time, which may be a little ahead of the clock.
fn is_old_enough(created: Timestamp, every: Duration, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(created)).is_ok_and(|age| age >= every)
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
        let staged = StagedFile::create(&path)?;
        Ok(begun.write(encryption, staged)?.publish()?)
    };
    let bytes = written().with_context(|| format!("cannot write {}", path.display()))?;
    for old in surplus(to, *keep, created).into_iter().chain(begun_before(to, created)) {
        let old = to.join(old);
        if let Err(error) = fs::remove_file(&old)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %old.display(), %error, "an old backup stays");
        }
    }
    Ok(WrittenBackup { file, created, bytes })
}

/// The backups in a folder, the oldest first: files with a name that this job gives. Files from the future are left
/// out: they were written before the clock was set back. They do not delay a backup, do not count as one that stays, and
/// are not deleted before their time.
pub fn written(folder: &Path, now: Timestamp) -> BTreeMap<Timestamp, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let timed = names.filter_map(|name| time_of(&name).map(|time| (time, name)));
    timed.filter(|(time, _)| time.duration_since(now) <= CLOCK_SKEW_MAX).collect()
}

/// The backups over the number that stays.
fn surplus(folder: &Path, keep: usize, now: Timestamp) -> Vec<String> {
    written(folder, now).into_values().rev().skip(keep).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// A folder with backups of these times.
    fn folder(times: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for at in times {
            fs::write(folder.path().join(file_name(time(at))), "").unwrap();
        }
        folder
    }

    fn is_due(folder: &Path, now: Timestamp) -> bool {
        written(folder, now).pop_last().is_none_or(|(last, _)| is_old_enough(last, DAY, now))
    }

    #[test]
    fn a_backup_dated_in_the_future_is_not_counted_and_delays_no_backup() {
        let old = ["2026-01-07T00:00:00Z", "2026-01-08T00:00:00Z", "2026-01-09T00:00:00Z"];
        let future = "2027-01-10T00:00:00Z";
        let now = time("2026-01-10T00:00:00Z");
        let folder = folder(&[&old[..], &[future]].concat());
        assert!(is_due(folder.path(), now));
        assert_eq!(surplus(folder.path(), 3, now), [""; 0], "it is none of the three");

        fs::write(folder.path().join(file_name(now)), "").unwrap();
        assert_eq!(surplus(folder.path(), 3, now), [file_name(time(old[0]))]);
        let next_look = now + SignedDuration::from_secs(5);
        assert!(!is_due(folder.path(), next_look));
        assert!(is_due(folder.path(), now + SignedDuration::from_hours(24)));
    }

    #[test]
    fn a_backup_dated_at_most_five_minutes_ahead_counts_as_the_last_one() {
        let now = time("2026-01-10T00:00:00Z");
        let ahead = time("2026-01-10T00:04:00Z");
        assert!(!is_due(folder(&["2026-01-10T00:04:00Z"]).path(), now));
        assert!(!is_old_enough(ahead, Duration::from_secs(60), now), "it is not four minutes old");
        assert!(is_due(folder(&["2026-01-10T00:06:00Z"]).path(), now));
    }
}
