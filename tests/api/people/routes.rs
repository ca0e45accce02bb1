//! The routes of the admin API.

use std::sync::OnceLock;

use serde_json::Value;

/// A route.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) path: String,
    pub(crate) methods: Vec<&'static str>,
}

impl Route {
    pub(crate) fn writes_something(&self) -> bool {
        // Everyone may sign in and out.
        !["/rules/explain", "/rules/test", "/session"].contains(&&*self.path)
            && !self.path.starts_with("/session/")
    }

    /// Sends a request with the credential, and changes nothing.
    pub(crate) fn only_uses(&self) -> bool {
        self.path.ends_with("/test") || self.path.ends_with("/request")
    }

    pub(crate) fn is_of_admins(&self) -> bool {
        let areas = ["/apps", "/providers", "/rules", "/keys", "/ca", "/plan", "/reload", "/orgs"];
        let mut areas = areas.iter().chain(&["/store", "/users", "/database-listeners"]);
        areas.any(|area| self.path.starts_with(area)) && !self.is_of_oneself()
    }

    /// What people of every role change for themselves.
    pub(crate) fn is_of_oneself(&self) -> bool {
        self.path.starts_with("/users/{user}/")
    }
}

/// Every route below `/api/v1`, by the API's own document: one that is added is tried as well.
pub(crate) fn routes() -> &'static [Route] {
    static ROUTES: OnceLock<Vec<Route>> = OnceLock::new();
    ROUTES.get_or_init(|| {
        let document = keyward_api::openapi();
        let paths = document["paths"].as_object().expect("paths");
        let of = |(path, operations): (&String, &Value)| {
            let operations = operations.as_object().expect("operations");
            let known = ["GET", "POST", "PUT", "PATCH", "DELETE"].into_iter();
            let methods =
                known.filter(|method| operations.contains_key(&method.to_lowercase())).collect();
            Route { path: path.clone(), methods }
        };
        // Every token may ask for them.
        let is_open = |path: &str| matches!(path, "/caller" | "/status");
        let found: Vec<_> = paths.iter().map(of).filter(|it| !is_open(&it.path)).collect();
        assert!(found.len() > 30, "{found:?}");
        found
    })
}
