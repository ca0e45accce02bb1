//! The requests of a provider's actions on the hosts of a connection.

use std::collections::BTreeMap;

use super::Provider;
use super::actions::{ActionRequests, NamedAction};
use super::form_error::FormError;
use super::host_template::HostTemplate;
use super::own_hosts::OwnHosts;
use crate::actions::ActionScope;

impl Provider {
    /// Named parts of the API.
    pub fn actions(&self) -> &[NamedAction] {
        let own = OwnHosts { hosts: &self.hosts, variables: &self.variables };
        self.actions.of(&self.id, &own)
    }

    /// The requests of an action, on the hosts of a connection with these variables. `None`: there is no such action.
    ///
    /// # Errors
    /// When a variable is missing or invalid.
    pub fn action(
        &self,
        name: &str,
        variables: &BTreeMap<String, String>,
    ) -> Option<Result<Vec<ActionScope>, FormError>> {
        let action = self.actions().iter().find(|action| action.name == name)?;
        let scopes = self.values(variables).and_then(|values| {
            let fill = |host: &HostTemplate| host.fill(&values, &self.variables);
            let scope = |requests: &ActionRequests| {
                // Without hosts of its own, it has all of the provider's.
                let hosts = match requests.hosts.is_empty() {
                    true => &self.hosts,
                    false => &requests.hosts,
                };
                Ok(requests.on(hosts.iter().map(fill).collect::<Result<_, FormError>>()?))
            };
            action.requests.iter().map(scope).collect()
        });
        Some(scopes)
    }

    /// The requests of an action on hosts that the rule names. `None`: there is no such action.
    pub fn action_anywhere(&self, name: &str) -> Option<Vec<ActionScope>> {
        let action = self.actions().iter().find(|action| action.name == name)?;
        let scope = |requests: &ActionRequests| {
            let hosts = if requests.hosts.is_empty() { &self.hosts } else { &requests.hosts };
            let literal: Option<Vec<_>> = hosts.iter().map(HostTemplate::literal).collect();
            // A host with a variable is any that the rule names.
            requests.on(literal.unwrap_or_default())
        };
        Some(action.requests.iter().map(scope).collect())
    }

    /// Whether the hosts of the provider depend on the connection.
    pub fn has_host_variables(&self) -> bool {
        self.hosts.iter().any(|host| host.literal().is_none())
    }
}
