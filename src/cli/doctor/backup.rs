//! Checks scheduled backups: there is one, and it is not too old.

use std::collections::BTreeMap;
use std::io;

use jiff::Timestamp;

use super::installation::CheckedInstallation;
use super::report::DoctorReport;
use keyward_app as app;
use keyward_backup::Schedule;
use keyward_base::time::format_duration;

const ID: &str = "backup";

/// Reports the last scheduled backup. Without a schedule there is nothing to report.
pub(super) fn check(install: &CheckedInstallation<'_>, report: &mut DoctorReport) {
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
            return report.warn(ID, format!("cannot read {folder}: {error}"), hint);
        }
    };
    let hint = "start the gateway, and read its log: a failed backup says why";
    let Some((created, file)) = files.last_key_value() else {
        return report.warn(ID, format!("there is no scheduled backup in {folder}"), hint);
    };
    let age = now.duration_since(*created).unsigned_abs();
    let about = std::time::Duration::from_secs(age.as_secs() / 60 * 60);
    let message = format!("the last backup, {file}, is {} old", format_duration(about));
    if age > every * 2 { report.warn(ID, message, hint) } else { report.ok(ID, message) }
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
