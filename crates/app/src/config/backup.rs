//! `backup:`: who can open backups, and when they are written to a folder.

use std::time::Duration;

use serde::Deserialize;
use serde_yaml::Value;

use super::reading::ConfigReading;
use keyward_backup::{BackupSettings, Recipient, Schedule};
use keyward_base::keys::section;
use keyward_base::time::parse_duration;

/// Below this, a backup could take longer than the time to the next.
const EVERY_MIN: Duration = Duration::from_secs(60);

const KEEP_DEFAULT: usize = 7;

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct BackupText {
        /// The time from one backup to the next, such as `1d`; 1m or more. Without it, only `keyward backup` and the
        /// API write backups.
        #[key("time")]
        every: Option<String>,
        /// The folder of scheduled backups, created if it is missing. It should be on another disk. Requires `every`.
        /// Default: `backups`.
        #[key("path from the data directory")]
        to: Option<String>,
        /// The number of scheduled backups that stay; older ones are deleted. 1 or more. Requires `every`.
        /// Default: 7.
        #[key("count")]
        keep: Option<usize>,
        /// Who can open backups: age recipients, as `age-keygen` prints them. Keep their identities elsewhere: without
        /// one, no backup opens.
        #[key("list of age recipients, `age1…`", "[]")]
        #[serde(default)]
        recipients: Vec<String>,
    }
}

pub(super) fn backup(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> BackupSettings {
    let Some(text) = reading.section::<BackupText>(value, "backup") else {
        return BackupSettings::default();
    };
    let recipient = |text: &str| text.parse::<Recipient>();
    let remedy = "write the recipient, `age1…`";
    let recipients = reading.parsed(&text.recipients, "backup.recipients", recipient, remedy);
    let schedule = schedule(&text, reading);
    if schedule.is_some() && text.recipients.is_empty() {
        let remedy = "run `age-keygen`, keep what it prints elsewhere, and add its `age1…` here";
        reading.problems.add("backup", "a scheduled backup needs `recipients`", remedy);
    }
    BackupSettings { recipients, schedule }
}

fn schedule(text: &BackupText, reading: &mut ConfigReading<'_>) -> Option<Schedule> {
    let Some(every) = &text.every else {
        for (key, is_given) in [("to", text.to.is_some()), ("keep", text.keep.is_some())] {
            if is_given {
                let message = format!("`{key}` does nothing without `every`");
                reading.problems.add("backup", message, "add `every: 1d`");
            }
        }
        return None;
    };
    let every = match parse_duration(every) {
        Ok(every) if every >= EVERY_MIN => Some(every),
        Ok(_) => {
            let message = "a backup may take longer than this";
            reading.problems.add("backup.every", message, "write 1m or more");
            None
        }
        Err(error) => {
            reading.problems.add("backup.every", error.to_string(), "write a time such as 1d");
            None
        }
    };
    let keep = text.keep.unwrap_or(KEEP_DEFAULT);
    if keep == 0 {
        reading.problems.add("backup.keep", "no backup would be kept", "write 1 or more");
    }
    let to = reading.state(text.to.as_deref().unwrap_or("backups"), "backup.to");
    Some(Schedule { every: every?, to: to?, keep })
}
