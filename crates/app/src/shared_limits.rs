//! The limits of a gateway, which replicas share.

use std::sync::Arc;

use keyward_proxy::SharedLimits;
use keyward_state::directory::Directory;

/// The limits of a gateway, which replicas share.
pub(super) fn limits(directory: &Directory) -> anyhow::Result<Arc<SharedLimits>> {
    let key = directory.shared_key("limits");
    let limits = SharedLimits::new(key.as_deref());
    limits.map_err(|_| anyhow::anyhow!("the system has no randomness"))
}
