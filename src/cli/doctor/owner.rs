//! Finds the owner of the installation when root runs the diagnosis: files that root creates would lock out
//! the gateway's user.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::Uid;

use super::installation::CheckedInstallation;
use super::report::DoctorReport;
use crate::cli::settings::Global;
use keyward_app::config::StoreChoice;

const ID: &str = "user";
/// Where systemd keeps the directories of units with `DynamicUser`.
const DYNAMIC_USERS: &str = "/var/lib/private";

/// The gateway's user: the owner of the store, else of the data directory.
pub(super) fn of(install: &CheckedInstallation<'_>) -> Option<Uid> {
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
                report.warn(ID, message, remedy(owner, &install.data, &named.keyward()));
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
    use super::*;

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
