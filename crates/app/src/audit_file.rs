//! Opens the audit log of a configuration for writing.

use super::folders;
use crate::config::{AuditTo, Config};
use keyward_state::observe::audit::{Audit, AuditWriter};
use keyward_state::observe::trail::Trail;

pub(super) fn open(config: &Config) -> anyhow::Result<(Audit, AuditWriter)> {
    let AuditTo { file, rotation, stdout } = &config.audit;
    folders::folder_for("audit.file", file)?;
    let opened = Audit::open(Trail::at(file), *rotation, config.limits.audit_queue_max, *stdout)?;
    // A command of root may have made it.
    folders::chown_created(&config.data_dir, file)?;
    Ok(opened)
}
