//! Checks the store and its backups: a running gateway has it open, or the master key opens it; and a scheduled
//! backup is not too old.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::authority::last_record;
use super::installation::CheckedInstallation;
use super::report::DoctorReport;
use keyward_app as app;
use keyward_app::config::StoreChoice;
use keyward_app::{KEY_LOST_HINT, Opening, Services};
use keyward_backup::Schedule;
use keyward_base::time::{Clock, format_duration};
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::Directory;
use keyward_state::store::StoreError;
use keyward_state::store::sled::SledStore;

const ID: &str = "store";

/// Whether this process can open the store.
pub(super) async fn check(
    install: &CheckedInstallation<'_>,
    keys: Option<Keyring>,
    serves: bool,
    report: &mut DoctorReport,
) -> bool {
    let path = match &install.config.store {
        StoreChoice::Sled { path } => path,
        StoreChoice::Postgres(_) => return shared(install, serves, report).await,
        StoreChoice::Memory => {
            report.warn(
                ID,
                "the store is in memory: its content is lost when the gateway stops",
                "set `store.sled`",
            );
            return false;
        }
    };
    let shown = path.display();
    let held_by = held_by(path);
    if serves {
        let process = held_by.map_or_else(String::new, |pid| format!(" (process {pid})"));
        report.ok(ID, format!("store {shown} is open in the gateway{process}"));
        return false;
    }
    // A path that this user cannot read fails below.
    if matches!(path.try_exists(), Ok(false)) {
        missing(path, last_record(&install.config.audit.file), report);
        return false;
    }
    match SledStore::open(path).await {
        Err(error) => refused(&error, path, report),
        Ok(store) => match keys {
            None => report.ok(ID, format!("store {shown} is free")),
            Some(keys) => {
                return opened(Directory::open(Arc::new(store), keys.into(), Clock::System).await)
                    .map_err(|(message, hint)| report.fail(ID, message, hint))
                    .map(|()| report.ok(ID, format!("the master key opens store {shown}")))
                    .is_ok();
            }
        },
    }
    false
}

/// Records of changes show that there was a store, such as one whose disk is not mounted.
fn missing(path: &Path, last_record: Option<Timestamp>, report: &mut DoctorReport) {
    let shown = path.display();
    match last_record {
        None => report.ok(ID, format!("the first start creates the store, {shown}")),
        Some(last) => report.warn(
            ID,
            format!("there is no store at {shown}, but the audit log has records until {last:.0}"),
            "a start creates an empty store: if it was moved, or its disk is not mounted, correct that first",
        ),
    }
}

/// A store that gateways share can be opened beside them.
async fn shared(
    install: &CheckedInstallation<'_>,
    serves: bool,
    report: &mut DoctorReport,
) -> bool {
    if serves {
        // It has the variables of the URL and of the key; this process may not.
        report.ok(ID, "the store in the database is open in the gateway");
        return false;
    }
    match Services::open(&install.config, Opening::Stored).await {
        Ok(_) => {
            report.ok(ID, "the database answers, and the master key opens the store in it");
            true
        }
        Err(error) => {
            let hint = "check `store.postgres`, `master_key`, and whether the database is up";
            report.fail(ID, format!("{error:#}"), hint);
            false
        }
    }
}

fn refused(error: &StoreError, path: &Path, report: &mut DoctorReport) {
    match error {
        StoreError::Locked { pid } => {
            let hint = match pid {
                Some(pid) => format!("wait for process {pid}, or stop it: kill {pid}"),
                None => "wait for that process, or stop it".to_owned(),
            };
            report.fail(ID, format!("{error}, which answers on no admin socket"), hint);
        }
        StoreError::Exposed { path, mode } => {
            let message =
                format!("other users can access store {} (mode {mode:04o})", path.display());
            report.fail(ID, message, format!("run `chmod 700 {}`", path.display()));
        }
        StoreError::Io { .. } | StoreError::Unreached { .. } => {
            let hint = error
                .hint()
                .unwrap_or("the files are intact as far as is known: correct the cause");
            report.fail(ID, format!("cannot use {}: {error}", path.display()), hint);
        }
        other => report.fail(
            ID,
            other.to_string(),
            "restore a backup: `keyward restore FILE` keeps these files beside the store",
        ),
    }
}

fn opened<T>(
    found: Result<T, keyward_state::directory::DirectoryError>,
) -> Result<(), (String, String)> {
    found
        .map(drop)
        .map_err(|error| (error.to_string(), error.hint().unwrap_or(KEY_LOST_HINT).to_owned()))
}

/// The process id in the lock file; a stale one belongs to no process.
fn held_by(store: &Path) -> Option<u32> {
    std::fs::read_to_string(store.join("pid")).ok()?.trim().parse().ok()
}

const BACKUP_ID: &str = "backup";

/// Reports the last scheduled backup. Without a schedule there is nothing to report.
pub(super) fn check_backups(install: &CheckedInstallation<'_>, report: &mut DoctorReport) {
    if let Some(schedule) = &install.config.backup.schedule {
        let now = Timestamp::now();
        judge(schedule, app::written_backups(&schedule.to, now), now, report);
    }
}

fn judge(
    schedule: &Schedule,
    files: io::Result<BTreeMap<Timestamp, String>>,
    now: Timestamp,
    report: &mut DoctorReport,
) {
    let (folder, every) = (schedule.to.display(), schedule.every);
    let files = match files {
        Ok(files) => files,
        Err(error) => {
            let hint = "check the folder, and run this as the user of the gateway";
            return report.warn(BACKUP_ID, format!("cannot read {folder}: {error}"), hint);
        }
    };
    let hint = "start the gateway, and read its log: a failed backup says why";
    let Some((created, file)) = files.last_key_value() else {
        return report.warn(BACKUP_ID, format!("there is no scheduled backup in {folder}"), hint);
    };
    let age = now.duration_since(*created).unsigned_abs();
    let about = std::time::Duration::from_secs(age.as_secs() / 60 * 60);
    let message = format!("the last backup, {file}, is {} old", format_duration(about));
    if age > every * 2 {
        report.warn(BACKUP_ID, message, hint)
    } else {
        report.ok(BACKUP_ID, message)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_backup_that_is_missing_or_late_and_an_unreadable_folder_are_warnings() {
        let every = Duration::from_secs(86_400);
        let schedule = Schedule { every, to: "backups".into(), keep: 7 };
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        let judged = |files: io::Result<BTreeMap<Timestamp, String>>| {
            let mut report = DoctorReport::default();
            judge(&schedule, files, now, &mut report);
            (report.failed(), report.checks[0].message.clone(), report.checks[0].hint.is_some())
        };
        let told = |files: &[&str]| {
            judged(Ok(files.iter().map(|at| (at.parse().unwrap(), "FILE".to_owned())).collect()))
        };
        let none = "there is no scheduled backup in backups".to_owned();
        assert_eq!(told(&[]), (false, none, true));
        let late = "the last backup, FILE, is 49h old".to_owned();
        assert_eq!(told(&["2026-01-01T00:00:00Z", "2026-01-07T23:00:00Z"]), (false, late, true));
        let fresh = "the last backup, FILE, is 1h old".to_owned();
        assert_eq!(told(&["2026-01-09T23:00:00Z"]), (false, fresh, false));
        let unreadable = judged(Err(io::Error::other("it is locked")));
        assert_eq!(unreadable, (false, "cannot read backups: it is locked".to_owned(), true));
    }
}
