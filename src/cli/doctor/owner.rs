//! Finds the owner of the installation when root runs the diagnosis: files that root creates would lock out
//! the gateway's user.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::Uid;

use super::installation::CheckedInstallation;
use super::report::DoctorReport;
use crate::config::StoreChoice;

const ID: &str = "user";

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
    keyward: &str,
    report: &mut DoctorReport,
) -> bool {
    let own = rustix::process::geteuid();
    match owner.filter(|owner| is_foreign(own, *owner)) {
        None => true,
        Some(owner) => {
            if !serves {
                let owner = owner.as_raw();
                let message = format!(
                    "this is root, and the gateway runs as user {owner}: its store was not opened"
                );
                report.warn(
                    ID,
                    message,
                    format!("run it as that user: `sudo -u '#{owner}' {keyward} doctor`"),
                );
            }
            false
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
    fn root_is_a_guest_where_the_files_are_of_another_user() {
        let (root, user) = (Uid::ROOT, Uid::from_raw(1000));
        assert!(is_foreign(root, user));
        assert!(!is_foreign(root, root) && !is_foreign(user, user));
    }
}
