//! [`read_text`]: files that commands read.

use std::{fs, io, path::Path};

use super::failure::{Exit, Failure};

/// The text of a file of at most so many MiB. `what` begins the message if it cannot be read.
pub(crate) fn read_text(path: &Path, mib_max: u64, what: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::failed(what, &error);
    if fs::metadata(path).map_err(failed)?.len() > mib_max * 1024 * 1024 {
        let message = format!("{} is longer than {mib_max} MiB", path.display());
        return Err(Failure::new(Exit::Failed, message));
    }
    fs::read_to_string(path).map_err(failed)
}
