//! Whether a host belongs to a provider already: for new own providers, whose credentials would otherwise compete
//! with those of the provider that is known.

use super::catalogue::Entry;
use super::{Catalogue, HostTemplate, Provider, Variable};
use keyward_base::pattern::HostPattern;

impl Catalogue {
    /// The provider that has one of these hosts, with the host.
    pub fn host_owner<'a>(
        &self,
        hosts: &'a [HostTemplate],
    ) -> Option<(Entry<'_>, &'a HostTemplate)> {
        let owner = |host: &HostTemplate| {
            let pattern = host.literal()?;
            self.entries().find(|entry| entry.has_host(&pattern))
        };
        hosts.iter().find_map(|host| Some((owner(host)?, host)))
    }
}

impl Provider {
    /// Whether some target matches the pattern and a host of the provider. A host that the owner enters whole
    /// is compared by its default.
    pub fn has_host(&self, pattern: &HostPattern) -> bool {
        has_host(&self.hosts, &self.variables, pattern)
    }
}

/// Whether some target matches the pattern and one of the hosts.
pub(super) fn has_host(
    hosts: &[HostTemplate],
    variables: &[Variable],
    pattern: &HostPattern,
) -> bool {
    let is_at = |host: &HostTemplate| match host.usual(variables) {
        Some(usual) => usual.overlaps(pattern),
        None => is_filled_to(&host.to_string(), pattern),
    };
    hosts.iter().any(is_at)
}

/// Whether some values of variables make the host of `pattern`: `{shop}.myshopify.com`, `acme.myshopify.com`.
fn is_filled_to(template: &str, pattern: &HostPattern) -> bool {
    let (Some((before, _)), Some((_, after))) =
        (template.split_once('{'), template.rsplit_once('}'))
    else {
        return false;
    };
    let host = pattern.to_string();
    let rest = host.strip_prefix(before).and_then(|host| host.strip_suffix(after));
    !after.is_empty() && rest.is_some_and(|value| !value.is_empty())
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
