//! A note about connections that the configuration declares and the store does not have yet.

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::settings::Global;

/// Notes declared connections that do not exist yet, because the gateway that creates them is not
/// running.
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
