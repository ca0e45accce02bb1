//! Checks the data directory: it exists, belongs to this user, is private, and can be written. If root runs the
//! diagnosis, finds the owner of the installation: files that root creates would lock out the gateway's user.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, access};
use rustix::process::Uid;

use super::installation::CheckedInstallation;
use super::report::DoctorReport;
use crate::cli::settings::Global;
use keyward_app::config::StoreChoice;
use keyward_app::{DanglingLink, data_directory_remedy};

const ID: &str = "data";

/// Whether the directory exists and can be used.
pub(super) fn check(data: &Path, report: &mut DoctorReport) -> bool {
    let shown = data.display();
    let metadata = match fs::metadata(data) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(link) = DanglingLink::at(data) {
                let target = link.target.display();
                let hint = format!("create {target}, or choose another with --data");
                report.fail(ID, format!("data directory: {link}"), hint);
                return false;
            }
            let message = format!("data directory {shown} does not exist yet");
            report.warn(ID, message, "`keyward serve` creates it; choose another with --data");
            return false;
        }
        Err(error) => {
            let message = format!("data directory {shown} cannot be read: {error}");
            report.fail(ID, message, "run this as the gateway's user");
            return false;
        }
    };
    let (own, owner) = (rustix::process::geteuid(), metadata.uid());
    if !metadata.is_dir() {
        let hint = "move it away, or choose another with --data";
        report.fail(ID, format!("data directory {shown} is not a directory"), hint);
    } else if owner != own.as_raw() && !own.is_root() {
        let hint = "run this as that user, or choose another data directory with --data";
        report.fail(ID, format!("data directory {shown} belongs to user {owner}"), hint);
    } else if metadata.mode() & 0o077 != 0 {
        let message = format!(
            "other users can enter data directory {shown} (mode {:04o})",
            metadata.mode() & 0o7777
        );
        report.fail(ID, message, format!("run `chmod 700 {shown}`"));
    } else if let Err(error) = access(data, Access::WRITE_OK | Access::EXEC_OK) {
        let error = io::Error::from(error);
        let message = format!("data directory {shown} cannot be written: {error}");
        report.fail(ID, message, data_directory_remedy(data, &error));
    } else {
        let owned = match owner == own.as_raw() {
            true => "is private to this user".to_owned(),
            false => format!("is private to user {owner}"),
        };
        report.ok(ID, format!("data directory {shown} {owned}"));
        return true;
    }
    false
}

const OWNER_ID: &str = "user";
/// Where systemd keeps the directories of units with `DynamicUser`.
const DYNAMIC_USERS: &str = "/var/lib/private";

/// The gateway's user: the owner of the store, else of the data directory.
pub(super) fn owner_of(install: &CheckedInstallation<'_>) -> Option<Uid> {
    let store = match &install.config.store {
        StoreChoice::Sled { path } => Some(&**path),
        StoreChoice::Postgres(_) | StoreChoice::Memory => None,
    };
    let owner = |path: &Path| Some(Uid::from_raw(fs::metadata(path).ok()?.uid()));
    store.and_then(owner).or_else(|| owner(&install.data))
}

/// Whether the store and the CA may be opened: root must not open another user's.
pub(super) fn may_open(
    owner: Option<Uid>,
    serves: bool,
    install: &CheckedInstallation<'_>,
    report: &mut DoctorReport,
) -> bool {
    let own = rustix::process::geteuid();
    match owner.filter(|owner| is_foreign(own, *owner)) {
        None => true,
        Some(owner) => {
            if !serves {
                let message = format!(
                    "this is root, and the gateway runs as user {}: its store was not opened",
                    owner.as_raw()
                );
                let config = Some(install.config.file()).filter(|file| file.exists());
                let named = Global {
                    data: Some(install.data.clone()),
                    config: config.map(Path::to_owned),
                    ..install.global.clone()
                };
                report.warn(OWNER_ID, message, remedy(owner, &install.data, &named.keyward()));
            }
            false
        }
    }
}

/// `keyward` names the files: sudo drops the variables that do, and the default directory of the owner is another one.
fn remedy(owner: Uid, data: &Path, keyward: &str) -> String {
    let start = "start the gateway, which answers root";
    // The user of a systemd unit with `DynamicUser` exists only while it runs.
    let is_dynamic = fs::canonicalize(data).is_ok_and(|data| data.starts_with(DYNAMIC_USERS));
    match is_dynamic {
        true => start.to_owned(),
        false => {
            format!(
                "{start}; or run it as that user: `sudo -u '#{}' {keyward} doctor`",
                owner.as_raw()
            )
        }
    }
}

fn is_foreign(own: Uid, owner: Uid) -> bool {
    own.is_root() && !owner.is_root()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_that_cannot_be_written_is_a_failure_whose_hint_names_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
        // Root may write everywhere.
        if rustix::process::geteuid().is_root() {
            return;
        }
        let mut report = DoctorReport::default();
        assert!(!check(dir.path(), &mut report) && report.failed());
        let hint = report.checks[0].hint.clone().unwrap();
        assert!(hint.starts_with(&format!("make {} writable", dir.path().display())), "{hint}");
    }

    #[test]
    fn a_symbolic_link_without_a_target_is_a_failure_that_names_both() {
        let dir = tempfile::tempdir().unwrap();
        let (link, target) = (dir.path().join("link"), dir.path().join("gone"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut report = DoctorReport::default();
        assert!(!check(&link, &mut report) && report.failed());
        let check = &report.checks[0];
        for named in [&link, &target] {
            assert!(check.message.contains(&named.display().to_string()), "{}", check.message);
        }
        assert!(!target.exists());
    }

    #[test]
    fn a_missing_directory_is_no_failure_and_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let mut report = DoctorReport::default();
        assert!(!check(&dir.path().join("no"), &mut report));
        assert!(!report.failed() && !dir.path().join("no").exists());
    }

    #[test]
    fn root_is_foreign_to_files_of_another_user_and_an_owner_is_not() {
        let (root, user) = (Uid::ROOT, Uid::from_raw(1000));
        assert!(is_foreign(root, user));
        assert!(!is_foreign(root, root) && !is_foreign(user, user));
    }

    #[test]
    fn the_command_for_the_owner_names_the_directory_that_was_diagnosed() {
        let dir = tempfile::tempdir().unwrap();
        let named = Global { data: Some(dir.path().to_owned()), ..Global::default() };
        let hint = remedy(Uid::from_raw(65532), dir.path(), &named.keyward());
        let says = format!("`sudo -u '#65532' keyward --data {} doctor`", dir.path().display());
        assert!(hint.starts_with("start the gateway") && hint.ends_with(&says), "{hint}");
    }
}
