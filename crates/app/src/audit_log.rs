//! Opens the audit log of a configuration for writing.

use anyhow::anyhow;

use super::folders;
use crate::config::{AuditTo, Config};
use keyward_state::observe::audit::{Audit, AuditWriter};
use keyward_state::observe::trail::Trail;

/// The log of a gateway.
pub(super) fn open(config: &Config) -> anyhow::Result<(Audit, AuditWriter)> {
    open_at(config, &config.audit)
}

/// The log of a process without listeners. Where it was given no configuration file, its records go into the log that the
/// file of the last start names, so that all changes are in one log.
///
/// # Errors
/// When that file cannot be read: the log may be elsewhere.
pub(super) fn open_at_rest(config: &Config) -> anyhow::Result<(Audit, AuditWriter)> {
    let Some(before) = config.file_of_audit_log_before() else { return open(config) };
    let of_gateway = config.with_file(before).map_err(|error| {
        anyhow!(
            "the audit log of the gateway is not known, because the configuration file of its last start cannot be used \
             ({error}): correct that file, name another one with --config, or make an empty file {}",
            config.file().display()
        )
    })?;
    open_at(config, &of_gateway.audit)
}

fn open_at(config: &Config, to: &AuditTo) -> anyhow::Result<(Audit, AuditWriter)> {
    let AuditTo { file, rotation, stdout } = to;
    folders::folder_for("audit.file", file)?;
    let opened = Audit::open(Trail::at(file), *rotation, config.limits.audit_queue_max, *stdout)?;
    // A command of root may have made it.
    folders::chown_created(&config.data_dir, file)?;
    Ok(opened)
}
