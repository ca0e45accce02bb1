//! Finds the provider that a host belongs to already: a new own provider with the same host would compete with it.

use super::Provider;
use super::catalogue::{Catalogue, CatalogueEntry};
use super::host_template::HostTemplate;
use super::own_hosts::OwnHosts;
use keyward_base::pattern::HostPattern;

impl Catalogue {
    /// The provider that has one of these hosts, with the host.
    pub fn host_owner<'a>(
        &self,
        hosts: &'a [HostTemplate],
    ) -> Option<(CatalogueEntry<'_>, &'a HostTemplate)> {
        let owner = |host: &HostTemplate| {
            let pattern = host.literal()?;
            self.entries().find(|entry| entry.has_host(&pattern))
        };
        hosts.iter().find_map(|host| Some((owner(host)?, host)))
    }
}

impl Provider {
    /// Whether some target matches the pattern and a host of the provider, for some values of its variables. A host that
    /// the owner enters whole is compared by its default.
    pub fn has_host(&self, pattern: &HostPattern) -> bool {
        OwnHosts { hosts: &self.hosts, variables: &self.variables }.overlap(pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_the_catalogue_is_found_with_its_provider() {
        let catalogue = Catalogue::built_in();
        for (host, owner) in [
            ("api.github.com", Some("github")),
            ("*.github.com", Some("github")),
            ("acme.myshopify.com", Some("shopify")),
            ("gitlab.com", Some("gitlab")),
            ("api.twilio.com", Some("twilio")),
            ("api.eu.mailgun.net", Some("mailgun")),
            ("api.us5.datadoghq.com", Some("datadog")),
            ("api.evil.example", None),
            ("myshopify.com", None),
            ("git.corp.example", None),
            ("api.github.com:8443", None),
        ] {
            let hosts = [HostTemplate::parse(host).unwrap()];
            let found = catalogue.host_owner(&hosts).map(|(owner, _)| &**owner.id());
            assert_eq!(found, owner, "{host}");
        }
    }
}
