//! The hosts at which git can use a connection of a provider over HTTPS.

use std::collections::BTreeMap;

use super::Provider;
use super::auth_method::{AuthMethod, ScopedPlaces};
use super::host_template::HostTemplate;
use crate::inject::placement::{Location, Place};
use crate::inject::template::Encoding;
use keyward_base::pattern::HostPattern;

impl Provider {
    /// The hosts from which git clones by HTTPS with a connection of this method: those where the method writes Basic
    /// authentication.
    pub fn git_hosts(
        &self,
        auth: &AuthMethod,
        variables: &BTreeMap<String, String>,
    ) -> Vec<HostPattern> {
        let Ok(values) = self.values(variables) else { return Vec::new() };
        let hosts = self.git.iter().filter(|host| writes_basic(auth, host));
        hosts.filter_map(|host| host.fill(&values, &self.variables).ok()).collect()
    }

    /// Whether some method writes Basic authentication, which git needs, at one of the hosts of repositories.
    pub fn writes_for_git(&self) -> bool {
        let writes = |auth: &AuthMethod| self.git.iter().any(|host| writes_basic(auth, host));
        self.auth.iter().any(writes)
    }
}

/// Whether the method writes Basic authentication at the host.
fn writes_basic(auth: &AuthMethod, host: &HostTemplate) -> bool {
    let is_basic = |place: &Place| {
        place.at == Location::Header(http::header::AUTHORIZATION)
            && place.value.encoding() == Encoding::Basic
    };
    let is_for = |it: &ScopedPlaces| it.hosts.is_empty() || it.hosts.contains(host);
    auth.placements.iter().any(|it| is_for(it) && it.places.iter().any(is_basic))
}
