//! Files of a program's environment, for libraries that look for a file with a credential: the rows of `run_files.yaml`.
//! They have placeholders, and keys that no service knows.

use std::sync::LazyLock;

use serde::Deserialize;

use super::kinds::AuthKind;
use crate::inject::placeholder;

/// A file, and the variable that names its path.
#[derive(Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    pub variable: String,
    /// The name of the file.
    pub file: String,
    /// Whom it is for.
    pub why: String,
    domain: String,
    kinds: Vec<AuthKind>,
    content: String,
}

/// All of them, in the order in which their variables are printed.
pub static RUN_FILES: LazyLock<Vec<RunFile>> = LazyLock::new(|| {
    let files = serde_yaml::from_str(include_str!("run_files.yaml"));
    files.expect("the table is sound: a test reads it")
});

impl RunFile {
    /// Whether it serves a connection with an auth method of this kind, and these host patterns.
    pub fn serves(&self, kind: Option<AuthKind>, hosts: &[String]) -> bool {
        let is_below = |host: &String| {
            host.strip_suffix(self.domain.as_str()).is_some_and(|name| name.ends_with('.'))
        };
        kind.is_some_and(|kind| self.kinds.contains(&kind)) && hosts.iter().any(is_below)
    }

    /// The content. `rsa_key` makes a private key in PEM, for a file that has one.
    pub fn content(&self, rsa_key: impl FnOnce() -> String) -> String {
        let content = self.content.replace("{placeholder}", placeholder::OF_ANY_CONNECTION);
        match content.contains("{rsa_key}") {
            true => content.replace("{rsa_key}", &rsa_key().replace('\n', "\\n")),
            false => content,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::inject::placeholder::token_endpoints;

    #[test]
    fn no_variable_and_no_file_is_named_twice() {
        let names: BTreeSet<_> = RUN_FILES.iter().flat_map(|it| [&it.variable, &it.file]).collect();
        assert_eq!(names.len(), 2 * RUN_FILES.len());
        assert!(RUN_FILES.iter().all(|it| !it.why.is_empty() && !it.file.contains('/')));
    }

    #[test]
    fn a_file_serves_only_its_kinds_of_connections_and_hosts_below_its_domain() {
        let file = &RUN_FILES[0];
        let serves = |kind, host: &str| file.serves(kind, &[host.to_owned()]);
        let (oauth, key) = (Some(AuthKind::Oauth2), Some(AuthKind::ApiKey));
        for (kind, host) in [
            (None, "storage.googleapis.com"),
            (key, "storage.googleapis.com"),
            (oauth, "googleapis.com"),
            (oauth, "evilgoogleapis.com"),
            (oauth, "googleapis.com.acme.test"),
        ] {
            assert!(!serves(kind, host), "{kind:?} {host}");
        }
        assert!(!file.serves(oauth, &[]));
        assert!(serves(oauth, "storage.googleapis.com") && serves(oauth, "*.googleapis.com"));
        assert!(serves(Some(AuthKind::ServiceAccount), "firestore.googleapis.com"));
    }

    #[test]
    fn only_a_file_with_a_key_has_one_made() {
        for file in RUN_FILES.iter() {
            let mut made = 0;
            let content = file.content(|| {
                made += 1;
                "BEGIN\nkey\n".to_owned()
            });
            assert_eq!(made, usize::from(file.content.contains("{rsa_key}")), "{}", file.file);
            assert!(!content.contains("{rsa_key}") && !content.contains("{placeholder}"));
            assert!(content.contains(placeholder::OF_ANY_CONNECTION), "{}", file.file);
        }
    }

    #[test]
    fn a_file_in_json_can_be_read_and_its_tokens_are_requested_where_the_gateway_answers() {
        for file in RUN_FILES.iter().filter(|it| it.file.ends_with(".json")) {
            let content = file.content(|| "BEGIN\nkey\n".to_owned());
            let read: serde_json::Value = serde_json::from_str(&content).expect("JSON");
            assert_eq!(read["private_key"], "BEGIN\nkey\n");
            let url = read["token_uri"].as_str().expect("a URL");
            let is_answered = |(host, path): (&str, &str)| format!("https://{host}{path}") == url;
            assert!(token_endpoints().any(is_answered), "{url}");
        }
    }
}
