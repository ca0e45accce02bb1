//! Checks the CA's files and expiry, and the system clock, on which all certificates depend.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::gateway::GatewayState;
use super::installation::CheckedInstallation;
use super::report::DoctorReport;
use crate::cli::settings::Global;
use keyward_api::wire::CaView;
use keyward_app::config::CaPaths;
use keyward_base::time::Clock;
use keyward_proxy::ca::CaError;
use keyward_proxy::ca::authority::Authority;

/// Time to distribute a new CA.
const NEAR: SignedDuration = SignedDuration::from_hours(24 * 30);
/// Tolerance: clocks that are set correctly move by seconds.
const JUMP: SignedDuration = SignedDuration::from_mins(5);
/// Holds the audit log's last record.
const TAIL_BYTES: u64 = 64 * 1024;

/// Whether the CA can sign. A running gateway is asked, because its files may be changing.
pub(super) async fn check(
    install: &CheckedInstallation<'_>,
    found: &GatewayState,
    report: &mut DoctorReport,
) -> bool {
    let files = &install.config.ca;
    if let GatewayState::Running(client) = found {
        match client.get::<CaView>("/api/v1/ca").await {
            Ok(ca) => {
                let ca = SigningCa { expires: ca.expires, made_here: ca.made_here, serves: true };
                time_left(&ca, files, install.global, report);
            }
            Err(failure) => {
                report.fail("ca", failure.message(), failure.advice().unwrap_or_default());
            }
        }
        return false;
    }
    // Opening a missing CA would create it, which is the gateway's task.
    let is_missing = |path: &Path| matches!(path.try_exists(), Ok(false));
    if is_missing(&files.cert) && is_missing(&files.key) {
        report.ok("ca", format!("the first start creates the CA, {}", files.cert.display()));
        return false;
    }
    match Authority::load_or_create(&files.cert, &files.key, &Clock::System) {
        Ok(authority) => {
            let made_here = authority.overview().made_here;
            let ca = SigningCa { expires: authority.expires(), made_here, serves: false };
            time_left(&ca, files, install.global, report);
            true
        }
        Err(error) => {
            let (message, hint) = message_and_hint(&error, files);
            report.fail("ca", message, hint);
            false
        }
    }
}

/// The CA that signs the leaves.
struct SigningCa {
    expires: Timestamp,
    /// Whether Keyward made it, and so can rotate it.
    made_here: bool,
    /// Whether a running gateway uses it.
    serves: bool,
}

fn time_left(ca: &SigningCa, files: &CaPaths, global: &Global, report: &mut DoctorReport) {
    let day = ca.expires.strftime("%Y-%m-%d");
    let left = ca.expires.duration_since(Timestamp::now());
    let has_expired = left <= SignedDuration::ZERO;
    let keyward = global.keyward();
    let hint = match (ca.made_here, has_expired) {
        (true, false) => {
            format!("run `{keyward} ca rotate`, and distribute the new CA during the overlap")
        }
        (true, true) => format!(
            "run `{keyward} ca rotate`, and let clients trust the new CA: an expired CA gives no overlap"
        ),
        (false, _) => {
            let (cert, key) = (files.cert.display(), files.key.display());
            let reload = match ca.serves {
                true => format!(", then run `{keyward} reload`"),
                false => String::new(),
            };
            format!("replace {cert} and {key} by the new CA's files{reload}")
        }
    };
    if has_expired {
        let message = format!("the CA expired on {day}: the gateway accepts no TLS of agents");
        report.fail("ca", message, hint);
    } else if left < NEAR {
        report.warn("ca", format!("the CA expires on {day}"), hint);
    } else {
        report.ok("ca", format!("the CA's files match, and it is valid until {day}"));
    }
}

fn message_and_hint(error: &CaError, files: &CaPaths) -> (String, String) {
    let shown = |path: &Path| path.display().to_string();
    match error {
        CaError::Incomplete { present, missing } => (
            format!("{} exists, but {} does not", shown(present), shown(missing)),
            "restore it from a backup, or remove both for a new CA".to_owned(),
        ),
        CaError::LooseKey { path, mode } => (
            format!("other users can read the CA's key {} (mode {mode:04o})", shown(path)),
            format!(
                "run `chmod 600 {}`; replace the CA if another user may have read the key",
                shown(path)
            ),
        ),
        CaError::KeyMismatch { cert, key } => (
            format!("{} is not the key of {}", shown(key), shown(cert)),
            "restore the matching pair, or remove both for a new CA".to_owned(),
        ),
        CaError::Expired => (
            "the CA has expired".to_owned(),
            format!(
                "remove {} and {}: the next start creates a new CA, which clients must trust",
                shown(&files.cert),
                shown(&files.key)
            ),
        ),
        CaError::NotYetValid => (
            "the CA is not valid yet: this machine's clock is slow".to_owned(),
            "set the clock".to_owned(),
        ),
        other => (other.to_string(), "check `ca` in the configuration".to_owned()),
    }
}

/// Compares the clock with the last record of the audit log.
pub(super) fn clock(install: &CheckedInstallation<'_>, report: &mut DoctorReport) {
    let file = &install.config.audit.file;
    let Some(last) = last_record(file) else { return };
    match last.duration_since(Timestamp::now()) > JUMP {
        true => {
            let message =
                format!("the clock is slow: the audit log's last record is from {last:.0}");
            report.fail("clock", message, "set the clock (systemd: timedatectl set-ntp true)");
        }
        false => report.ok("clock", "the clock is later than the audit log's last record"),
    }
}

/// The time of the last record of the audit log in this file, if there is one.
pub(super) fn last_record(file: &Path) -> Option<Timestamp> {
    let mut file = File::open(file).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail).ok()?;
    let time = |line: &[u8]| {
        let record: serde_json::Value = serde_json::from_slice(line).ok()?;
        record.get("time")?.as_str()?.parse().ok()
    };
    // One that is just being written is not whole yet.
    tail.rsplit(|byte| *byte == b'\n').find_map(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::CheckStatus;

    #[test]
    fn a_ca_that_has_expired_in_a_running_gateway_is_a_failure() {
        let files = CaPaths { cert: "/c".into(), key: "/k".into() };
        let told = |made_here: bool, left: SignedDuration| {
            let expires = Timestamp::now() + left;
            let (ca, mut report) =
                (SigningCa { expires, made_here, serves: true }, DoctorReport::default());
            time_left(&ca, &files, &Global::default(), &mut report);
            report.checks.remove(0)
        };
        let (past, soon) = (SignedDuration::from_secs(-2), SignedDuration::from_hours(24));
        let check = told(true, past);
        assert_eq!(check.status, CheckStatus::Fail);
        assert!(check.message.starts_with("the CA expired on "), "{check:?}");
        let hint = "run `keyward ca rotate`, and let clients trust the new CA: an expired CA gives \
                    no overlap";
        assert_eq!(check.hint.as_deref(), Some(hint));
        let hint = "replace /c and /k by the new CA's files, then run `keyward reload`";
        for (left, status) in [(past, CheckStatus::Fail), (soon, CheckStatus::Warn)] {
            let check = told(false, left);
            assert_eq!((check.status, check.hint.as_deref()), (status, Some(hint)));
        }
        let check = told(true, soon);
        assert!(check.hint.unwrap().ends_with("distribute the new CA during the overlap"));
    }

    #[test]
    fn the_time_comes_from_the_last_complete_record_of_the_audit_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let text =
            "{\"time\":\"2025-01-01T00:00:00Z\"}\n{\"time\":\"2025-01-02T00:00:00Z\"}\n{\"ti";
        std::fs::write(&path, text).unwrap();
        assert_eq!(last_record(&path), "2025-01-02T00:00:00Z".parse().ok());
        std::fs::write(&path, "").unwrap();
        assert_eq!(last_record(&path), None);
    }
}
