//! The routes of the admin API, as its sources name them.

use std::sync::OnceLock;

/// A route as the sources name it.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) path: String,
    pub(crate) methods: Vec<&'static str>,
}

impl Route {
    pub(crate) fn writes_something(&self) -> bool {
        !["/rules/explain", "/rules/test"].contains(&&*self.path)
    }

    /// Sends a request with the credential, and changes nothing.
    pub(crate) fn only_uses(&self) -> bool {
        self.path.ends_with("/test") || self.path.ends_with("/request")
    }

    pub(crate) fn is_of_admins(&self) -> bool {
        ["/apps", "/providers", "/rules", "/keys", "/ca", "/plan", "/reload", "/orgs", "/users"]
            .iter()
            .any(|area| self.path.starts_with(area))
    }
}

/// Every route of the API, read from the sources: one that is added is tried as well.
pub(crate) fn routes() -> &'static [Route] {
    static ROUTES: OnceLock<Vec<Route>> = OnceLock::new();
    ROUTES.get_or_init(|| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/api/src");
        let mut found = Vec::new();
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("the sources") {
                let path = entry.expect("an entry").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.extend(of_source(&std::fs::read_to_string(path).expect("text"))),
                }
            }
        }
        // The open ones are for everybody.
        let open = ["/healthz", "/readyz", "/ca.", "/bundle.pem", "/metrics", "/oauth", "/api"];
        let is_open = |path: &str| path == "/" || open.iter().any(|open| path.starts_with(open));
        found.retain(|route: &Route| !is_open(&route.path));
        assert!(found.len() > 30, "{found:?}");
        found
    })
}

fn of_source(text: &str) -> Vec<Route> {
    let mut found = Vec::new();
    for part in text.split(".route(").skip(1) {
        let Some((_, rest)) = part.split_once('"') else { continue };
        let Some((path, handlers)) = rest.split_once('"') else { continue };
        let handlers = handlers.split(".route(").next().unwrap_or_default();
        let end = handlers.find("\n}").unwrap_or(handlers.len());
        let has = |word: &&(&str, &str)| handlers[..end].contains(word.0);
        let words = [
            ("get(", "GET"),
            ("post(", "POST"),
            ("patch(", "PATCH"),
            ("put(", "PUT"),
            ("delete(", "DELETE"),
        ];
        let methods = words.iter().filter(has).map(|word| word.1).collect();
        found.push(Route { path: path.to_owned(), methods });
    }
    found
}
