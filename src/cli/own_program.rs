//! [`own_program`]: the file of this program, to start it again.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::failure::Failure;

/// What Linux adds to the path of a file that was removed or replaced (proc(5), `/proc/PID/exe`).
const REPLACED: &[u8] = b" (deleted)";

/// The path of this program. After an upgrade, the new file is there.
///
/// # Errors
/// When the system does not say it: on Linux, without `/proc`.
pub(crate) fn own_program() -> Result<PathBuf, Failure> {
    let path = std::env::current_exe().map_err(|error| {
        Failure::failed("cannot find this program's file", &error).hint("mount /proc")
    })?;
    Ok(in_force(path))
}

fn in_force(path: PathBuf) -> PathBuf {
    let replaced = path.as_os_str().as_bytes().strip_suffix(REPLACED);
    match replaced.map(|place| Path::new(OsStr::from_bytes(place)).to_owned()) {
        Some(place) if !path.exists() => place,
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_replaced_program_is_that_of_the_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, replaced) = (dir.path().join("keyward"), dir.path().join("keyward (deleted)"));
        assert_eq!(in_force(replaced.clone()), plain);
        assert_eq!(in_force(plain.clone()), plain);
        std::fs::write(&replaced, "").unwrap();
        assert_eq!(in_force(replaced.clone()), replaced, "a file of that name");
    }
}
