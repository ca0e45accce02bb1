//! The existing connection that a connect session reconnects, if any.

use std::sync::Arc;

use crate::state::Admin;
use keyward_base::id::OrgId;
use keyward_model::{ConnectSessionSpec, Connection, Record, Reference};

/// The connection that a connect session connects again.
pub(super) fn target(
    admin: &Admin,
    org: &OrgId,
    spec: &ConnectSessionSpec,
) -> Option<Arc<Record<Connection>>> {
    let id = spec.connection.as_ref().and_then(Reference::id)?;
    admin.deps().directory.view().connection(org, id).cloned()
}
