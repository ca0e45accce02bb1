//! The requests that a binding allows: all requests with the connection, or those of named actions and slots.

use std::sync::Arc;

use crate::directory::{BindingRecord, ConnectionRecord};
use keyward_rules::policy::{ActionList, Extent, OwnAuthorization, Parts, Slot};
use keyward_rules::provider::Catalogue;

/// The requests that a binding allows.
#[derive(Debug)]
pub(super) struct Allowed {
    pub(super) extent: Extent,
    /// The requests that it always denies.
    pub(super) deny: Option<ActionList>,
    /// What is done with authorizations of requests' own, slots excepted.
    pub(super) own_authorization: OwnAuthorization,
}

impl Allowed {
    /// The requests that the binding, or else slots alone, allow with the connection; `None` if they allow nothing.
    pub(super) fn of(
        binding: Option<&BindingRecord>,
        record: &ConnectionRecord,
        slots: Option<Vec<Arc<Slot>>>,
        catalogue: &Catalogue,
    ) -> Option<Self> {
        let Some(binding) = binding.filter(|binding| binding.direct) else {
            let extent = Extent::Parts(Parts { allow: None, slots: slots? });
            return Some(Self {
                extent,
                deny: None,
                own_authorization: OwnAuthorization::default(),
            });
        };
        let list = |names: &[String]| action_list(names, Some(record), catalogue);
        let extent = match list(&binding.limits.allow) {
            None => Extent::Whole,
            allow => Extent::Parts(Parts { allow, slots: slots.unwrap_or_default() }),
        };
        let deny = list(&binding.limits.deny);
        Some(Self { extent, deny, own_authorization: binding.limits.own_authorization })
    }
}

/// The requests of these actions of the connection's provider; `None` if none is named. Without the connection there are
/// none.
pub(super) fn action_list(
    names: &[String],
    record: Option<&ConnectionRecord>,
    catalogue: &Catalogue,
) -> Option<ActionList> {
    if names.is_empty() {
        return None;
    }
    let mut list = ActionList::default();
    let provider = record.and_then(|record| catalogue.get(&record.provider));
    let variables = record.map(ConnectionRecord::host_variables).unwrap_or_default();
    for name in names {
        list.names.push(name.as_str().into());
        match provider.and_then(|provider| provider.action(name, &variables)) {
            Some(Ok(scopes)) => list.scopes.extend(scopes),
            // With an unknown action, an `allow` list allows less, and a `deny` list denies everything.
            None | Some(Err(_)) => list.lost = Some(name.as_str().into()),
        }
    }
    Some(list)
}
