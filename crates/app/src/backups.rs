//! Background job for scheduled backups: writes one when the last is old enough, and deletes those over the number that
//! stays. What was written before a restart, or by a replica that shares the folder, is found by the names of the files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::config::Config;
use keyward_backup::{
    BackupPart, Backups, BegunBackup, Encryption, Recipient, Schedule, StagedFile, WriteError,
    WrittenBackup, file_name, time_of,
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

/// How long a staged file was not written to when it is taken for that of a killed process. Longer than [`CLOCK_SKEW_MAX`],
/// as the time of a file may be that of a file server.
const ABANDONED_AFTER: SignedDuration = SignedDuration::from_mins(15);

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
        // Of a clock that only goes on: the time of day may be set back by more than the pause.
        let mut retry_at: Option<Instant> = None;
        loop {
            let settings = self.backups.settings();
            if let Some(schedule) = &settings.schedule
                && retry_at.is_none_or(|at| Instant::now() >= at)
            {
                let attempted = self.attempt(schedule, &settings.recipients).await;
                retry_at = attempted.is_err().then(|| Instant::now() + RETRY_AFTER);
                self.tell(attempted);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Writes a backup if one is due; `None` if there is nothing to write.
    async fn attempt(
        &self,
        schedule: &Schedule,
        recipients: &[Recipient],
    ) -> anyhow::Result<Option<WrittenBackup>> {
        if self.is_due(schedule).await? { self.write(schedule, recipients).await } else { Ok(None) }
    }

    /// Whether the last file is old enough for a new backup. Reports that file as the last backup, even if another
    /// process wrote it.
    async fn is_due(&self, schedule: &Schedule) -> anyhow::Result<bool> {
        let (folder, now) = (schedule.to.clone(), self.clock.now());
        // The folder may be of a network file system that does not answer.
        let last = tokio::task::spawn_blocking(move || last_in(&folder, now)).await??;
        let Some(last) = last else { return Ok(true) };
        let is_due = is_old_enough(last.created, schedule.every, now);
        if self.backups.scheduled().last.as_ref() != Some(&last) {
            self.metrics.backups.succeeded(last.created);
            self.backups.set_scheduled(Ok(last));
        }
        Ok(is_due)
    }

    async fn write(
        &self,
        schedule: &Schedule,
        recipients: &[Recipient],
    ) -> anyhow::Result<Option<WrittenBackup>> {
        let begun = self.backups.begin().await?;
        let wanted = Arc::new(());
        let new = NewBackup {
            begun,
            schedule: schedule.clone(),
            encryption: Encryption::Recipients(recipients.to_vec()),
            clock: self.clock.clone(),
            wanted: Arc::downgrade(&wanted),
        };
        let written = tokio::task::spawn_blocking(move || new.write()).await?;
        drop(wanted);
        written
    }

    fn tell(&self, attempted: anyhow::Result<Option<WrittenBackup>>) {
        match attempted {
            Ok(None) => {}
            Ok(Some(written)) => {
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

/// A backup that a schedule writes.
struct NewBackup {
    begun: BegunBackup,
    schedule: Schedule,
    encryption: Encryption,
    clock: Clock,
    /// Ends with the job: a gateway that stops waits for its threads.
    wanted: Weak<()>,
}

impl NewBackup {
    /// Writes the file, then deletes old ones: at no time are there fewer than before. `None`: another process, to which
    /// the same backup was due, was faster, and its file stays alone.
    fn write(&self) -> anyhow::Result<Option<WrittenBackup>> {
        let Schedule { every, to, keep } = &self.schedule;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(to);
        made.with_context(|| format!("cannot create {}", to.display()))?;
        // Before the new one: they may have the space that it needs.
        remove_each(to, abandoned(to, self.clock.now()));
        let (created, file) = (self.begun.created(), file_name(self.begun.created()));
        let path = to.join(&file);
        let failed = || format!("cannot write {}", path.display());
        let staged = self.stage(&path).with_context(failed)?;
        let last = last_in(to, self.clock.now())?;
        if last.is_some_and(|last| !is_old_enough(last.created, *every, created)) {
            return Ok(None);
        }
        let bytes = staged.publish().with_context(failed)?;
        remove_each(to, surplus(to, *keep, created));
        Ok(Some(WrittenBackup { file, created, bytes }))
    }

    fn stage(&self, path: &Path) -> Result<StagedFile, WriteError> {
        let out = WhileWanted { out: StagedFile::create(path)?, wanted: self.wanted.clone() };
        Ok(self.begun.write(&self.encryption, out)?.out)
    }
}

/// Refuses what is written after the job has ended.
struct WhileWanted<W> {
    out: W,
    wanted: Weak<()>,
}

impl<W: Write> Write for WhileWanted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.wanted.strong_count() {
            0 => Err(io::Error::other("the gateway stops")),
            _ => self.out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The backups in a folder, the oldest first: files with a name that this job gives. Files from the future are left
/// out: they were written before the clock was set back. They do not delay a backup, do not count as one that stays, and
/// are not deleted before their time.
///
/// # Errors
/// When the folder cannot be read. One that does not exist has none.
pub fn written(folder: &Path, now: Timestamp) -> io::Result<BTreeMap<Timestamp, String>> {
    let names = names_in(folder)?.into_iter();
    let timed = names.filter_map(|name| time_of(&name).map(|time| (time, name)));
    Ok(timed.filter(|(time, _)| time.duration_since(now) <= CLOCK_SKEW_MAX).collect())
}

/// The last backup in a folder.
fn last_in(folder: &Path, now: Timestamp) -> anyhow::Result<Option<WrittenBackup>> {
    let found = written(folder, now);
    let mut found = found.with_context(|| format!("cannot read {}", folder.display()))?;
    Ok(found.pop_last().map(|(created, file)| {
        let bytes = fs::metadata(folder.join(&file)).map_or(0, |about| about.len());
        WrittenBackup { file, created, bytes }
    }))
}

/// The backups over the number that stays.
fn surplus(folder: &Path, keep: usize, now: Timestamp) -> io::Result<Vec<String>> {
    Ok(written(folder, now)?.into_values().rev().skip(keep).collect())
}

/// Files of this job that a killed process did not finish. Those of processes that run are written to all the time.
fn abandoned(folder: &Path, now: Timestamp) -> io::Result<Vec<String>> {
    let is_staged = |name: &str| {
        let staged = name.strip_prefix('.').and_then(|name| name.rsplit_once('.'));
        let numbered = staged.filter(|(_, number)| number.parse::<u32>().is_ok());
        numbered.is_some_and(|(name, _)| time_of(name).is_some())
    };
    let is_old = |name: &str| {
        let modified = fs::metadata(folder.join(name)).and_then(|about| about.modified());
        let modified = modified.ok().and_then(|time| Timestamp::try_from(time).ok());
        modified.is_some_and(|time| now.duration_since(time) >= ABANDONED_AFTER)
    };
    let mut names = names_in(folder)?;
    names.retain(|name| is_staged(name) && is_old(name));
    Ok(names)
}

fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect()
}

/// Removes files of this job. A failure does not undo the backup, and the next one tries again.
fn remove_each(folder: &Path, names: io::Result<Vec<String>>) {
    let stays = |path: &Path, error: io::Error| {
        tracing::warn!(path = %path.display(), %error, "an old backup stays");
    };
    match names {
        Err(error) => stays(folder, error),
        Ok(names) => {
            for path in names.into_iter().map(|name| folder.join(name)) {
                if let Err(error) = fs::remove_file(&path)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    stays(&path, error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::SystemTime;

    use keyward_backup::{AgeIdentity, BackupSettings, ScheduledBackups};
    use keyward_state::crypto::keyring::Keyring;
    use keyward_state::store::memory::MemoryStore;

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
        last_in(folder, now).unwrap().is_none_or(|last| is_old_enough(last.created, DAY, now))
    }

    #[test]
    fn a_backup_dated_in_the_future_is_not_counted_and_delays_no_backup() {
        let old = ["2026-01-07T00:00:00Z", "2026-01-08T00:00:00Z", "2026-01-09T00:00:00Z"];
        let future = "2027-01-10T00:00:00Z";
        let now = time("2026-01-10T00:00:00Z");
        let folder = folder(&[&old[..], &[future]].concat());
        assert!(is_due(folder.path(), now));
        assert_eq!(surplus(folder.path(), 3, now).unwrap(), [""; 0], "it is none of the three");

        fs::write(folder.path().join(file_name(now)), "").unwrap();
        assert_eq!(surplus(folder.path(), 3, now).unwrap(), [file_name(time(old[0]))]);
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

    /// A gateway of a store of its own, and its time.
    async fn gateway() -> (BackupJob, Arc<AtomicI64>) {
        let (store, keyring) = (Arc::new(MemoryStore::new()), Arc::new(Keyring::ephemeral()));
        let directory = Directory::open(store, keyring, Clock::System).await.unwrap();
        let day = Arc::new(AtomicI64::new(Timestamp::now().as_millisecond()));
        let clock = Clock::Fixed(day.clone());
        let parts = || Ok(Vec::new());
        let settings = BackupSettings::default();
        let backups = Backups::new(Arc::new(directory), parts, clock.clone(), settings);
        let metrics = Arc::new(Metrics::default());
        (BackupJob { backups: Arc::new(backups), metrics, clock }, day)
    }

    fn daily(to: &Path, keep: usize) -> Schedule {
        Schedule { every: DAY, to: to.to_owned(), keep }
    }

    async fn new_backup(job: &BackupJob, schedule: &Schedule, wanted: &Arc<()>) -> NewBackup {
        NewBackup {
            begun: job.backups.begin().await.unwrap(),
            schedule: schedule.clone(),
            encryption: Encryption::Recipients(vec![AgeIdentity::generate().recipient()]),
            clock: job.clock.clone(),
            wanted: Arc::downgrade(wanted),
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names = names_in(folder).unwrap();
        names.sort();
        names
    }

    #[tokio::test]
    async fn of_replicas_that_write_a_due_backup_at_the_same_time_one_publishes_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let ((one, _), (other, day)) = (gateway().await, gateway().await);
        day.fetch_add(2_000, Ordering::Relaxed);
        let (schedule, wanted) = (daily(folder.path(), 3), Arc::new(()));
        assert!(one.is_due(&schedule).await.unwrap() && other.is_due(&schedule).await.unwrap());
        let slow = new_backup(&one, &schedule, &wanted).await;
        let fast = new_backup(&other, &schedule, &wanted).await;
        let written = fast.write().unwrap().expect("the first one");
        assert_eq!(slow.write().unwrap(), None);
        assert_eq!(names(folder.path()), [written.file.as_str()]);

        one.backups.set_scheduled(Err((one.clock.now(), "it failed before".to_owned())));
        assert!(!one.is_due(&schedule).await.unwrap());
        let seen = ScheduledBackups { last: Some(written.clone()), failure: None };
        assert_eq!(one.backups.scheduled(), seen, "the file of the other is its last backup too");
        let line = format!(
            "keyward_backup_last_success_timestamp_seconds {}\n",
            written.created.as_second()
        );
        assert!(one.metrics.render().contains(&line));
    }

    #[tokio::test]
    async fn the_file_that_another_replica_writes_stays_and_those_of_killed_processes_are_removed()
    {
        let folder = tempfile::tempdir().unwrap();
        let [writing, killed] = ["101", "1"].map(|number| {
            let name = format!(".keyward-20260101T000000Z.age.{number}");
            (fs::File::create(folder.path().join(&name)).unwrap(), name)
        });
        let foreign = [".keyward-20260101T000000Z.age.x", ".notes.1", "keyward-old.age"];
        let long_ago = SystemTime::now() - Duration::from_secs(3_600);
        killed.0.set_modified(long_ago).unwrap();
        for name in foreign {
            fs::File::create(folder.path().join(name)).unwrap().set_modified(long_ago).unwrap();
        }
        let (job, _) = gateway().await;
        let (schedule, wanted) = (daily(folder.path(), 3), Arc::new(()));
        let new = new_backup(&job, &schedule, &wanted).await.write().unwrap().expect("a backup");
        let mut expected = vec![new.file, writing.1];
        expected.extend(foreign.map(str::to_owned));
        expected.sort();
        assert_eq!(names(folder.path()), expected);
    }

    #[tokio::test]
    async fn a_failed_backup_removes_abandoned_files_and_no_backup() {
        let old = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"];
        let folder = folder(&old);
        let killed = folder.path().join(".keyward-20260103T000000Z.age.1");
        let long_ago = SystemTime::now() - Duration::from_secs(3_600);
        fs::File::create(killed).unwrap().set_modified(long_ago).unwrap();
        let (job, _) = gateway().await;
        let (schedule, wanted) = (daily(folder.path(), 1), Arc::new(()));
        let new = new_backup(&job, &schedule, &wanted).await;
        // Its job ends, as the gateway stops.
        drop(wanted);
        let refused = format!("{:#}", new.write().unwrap_err());
        assert!(refused.contains("the gateway stops"), "{refused}");
        assert_eq!(names(folder.path()), old.map(|at| file_name(time(at))));
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_read_is_an_error_and_not_an_empty_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        assert_eq!(written(&file, Timestamp::now()).unwrap(), BTreeMap::new(), "it is missing");
        fs::write(&file, "").unwrap();
        written(&file, Timestamp::now()).unwrap_err();
        let refused = gateway().await.0.is_due(&daily(&file, 1)).await.unwrap_err();
        assert!(format!("{refused:#}").starts_with("cannot read "), "{refused:#}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_backup_is_repeated_after_five_minutes_although_the_clock_was_set_back() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("backups");
        fs::write(&to, "a file").unwrap();
        let (job, day) = gateway().await;
        let recipients = vec![AgeIdentity::generate().recipient()];
        job.backups.set(BackupSettings { recipients, schedule: Some(daily(&to, 1)) });
        let backups = job.backups.clone();
        let running = tokio::spawn(job.run());
        let became = async |is_so: fn(&ScheduledBackups) -> bool| {
            let looking = async {
                let mut looks = tokio::time::interval(LOOK_EVERY);
                while !is_so(&backups.scheduled()) {
                    looks.tick().await;
                }
            };
            tokio::time::timeout(2 * RETRY_AFTER, looking).await.expect("in time");
            Instant::now()
        };
        let failed = became(|it| it.failure.is_some()).await;
        day.fetch_sub(86_400_000, Ordering::Relaxed);
        fs::remove_file(&to).unwrap();
        let waited = became(|it| it.last.is_some()).await - failed;
        assert!(waited <= RETRY_AFTER + 3 * LOOK_EVERY, "{waited:?}");
        assert_eq!(backups.scheduled().failure, None);
        running.abort();
    }
}
