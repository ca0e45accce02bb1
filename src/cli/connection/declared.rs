//! What the configuration declares beside what is stored.

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::settings::Global;

/// What the configuration declares is made by the gateway, which does not run.
pub(super) fn note(global: &Global, known: &[&str]) -> Result<(), Failure> {
    let config = global.load()?;
    let declared = config.connections.iter().map(|declared| &*declared.name);
    let missing: Vec<_> = declared.filter(|name| !known.contains(name)).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        output::note(&format!(
            "note: the configuration declares {missing}: made when the gateway starts"
        ));
    }
    Ok(())
}
