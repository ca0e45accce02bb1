//! [`Listing`]: the page that lists resources of a kind. The page of a resource that does not exist links it.

/// A page with a list.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Listing {
    /// The first segment of the API's paths of these resources.
    resources: &'static str,
    pub(crate) label: &'static str,
    pub(crate) path: &'static str,
}

const fn listing(resources: &'static str, label: &'static str, path: &'static str) -> Listing {
    Listing { resources, label, path }
}

/// All of the kinds whose resources have pages.
const ALL: &[Listing] = &[
    listing("agents", "Agents", "/agents"),
    listing("apps", "Apps", "/apps"),
    listing("connections", "Connections", "/connections"),
    listing("hooks", "Hooks", "/incoming"),
    listing("plugins", "Plugins", "/plugins"),
    listing("providers", "Services", "/services"),
    listing("rules", "Rules", "/rules"),
    listing("sources", "Secret sources", "/sources"),
    listing("users", "People", "/people"),
    listing("webhooks", "Webhooks", "/webhooks"),
];

impl Listing {
    /// Of requests.
    pub(crate) const TRAFFIC: &'static Self = &listing("", "Traffic", "/traffic");
    /// Of records.
    pub(crate) const AUDIT: &'static Self = &listing("", "Audit", "/audit");
    pub(crate) const AGENTS: &'static Self = &ALL[0];

    /// Of the resource that a path of the API names, such as `/agents/ci`.
    pub(crate) fn of(path: &str) -> Option<&'static Self> {
        let (resources, _) = path.strip_prefix('/')?.split_once('/')?;
        ALL.iter().find(|listing| listing.resources == resources)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_that_names_a_resource_has_a_listing() {
        let path = |path: &str| Listing::of(path).map(|listing| listing.path);
        assert_eq!(path("/users/ann"), Some("/people"));
        assert_eq!(path("/hooks/h/events?limit=1"), Some("/incoming"));
        assert_eq!((path("/rules?agent=gone"), path("/status/x")), (None, None));
        assert_eq!(Listing::AGENTS.path, "/agents");
    }
}
