//! Files of a program's environment, for libraries that look for a file with a credential: the rows of `run_files.yaml`.
//! They have placeholders, and keys that no service knows.

use std::collections::BTreeSet;
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
    account_ends: Option<String>,
    content: String,
}

/// What stands for the part of an account's address in a content.
const ACCOUNT_DOMAIN: &str = "{account_domain}";

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

    /// The content for connections with these accounts. `rsa_key` makes a private key in PEM, for a file that has one.
    pub fn content(&self, accounts: &[String], rsa_key: impl FnOnce() -> String) -> String {
        let domain = self.account_domain(accounts);
        let is_known = |line: &&str| domain.is_some() || !line.contains(ACCOUNT_DOMAIN);
        let lines: Vec<_> = self.content.lines().filter(is_known).collect();
        let content = lines.join("\n").replace(ACCOUNT_DOMAIN, domain.unwrap_or_default());
        let content = content.replace("{placeholder}", placeholder::OF_ANY_CONNECTION);
        match content.contains("{rsa_key}") {
            true => content.replace("{rsa_key}", &rsa_key().replace('\n', "\\n")),
            false => content,
        }
    }

    /// That part of the only account, or of all of them if it is the same.
    fn account_domain<'a>(&self, accounts: &'a [String]) -> Option<&'a str> {
        let end = self.account_ends.as_deref()?;
        let is_of_name = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let is_name = |part: &&str| !part.is_empty() && part.bytes().all(is_of_name);
        let parts = accounts.iter().filter_map(|it| it.split_once('@')?.1.strip_suffix(end));
        let mut parts = parts.filter(is_name).collect::<BTreeSet<_>>().into_iter();
        parts.next().filter(|_| parts.next().is_none())
    }
}

#[cfg(test)]
mod tests {
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
            let content = file.content(&[], || {
                made += 1;
                "BEGIN\nkey\n".to_owned()
            });
            assert_eq!(made, usize::from(file.content.contains("{rsa_key}")), "{}", file.file);
            for left in ["{rsa_key}", "{placeholder}", ACCOUNT_DOMAIN] {
                assert!(!content.contains(left), "{content}");
            }
            assert!(content.contains(placeholder::OF_ANY_CONNECTION), "{}", file.file);
        }
    }

    #[test]
    fn a_file_in_json_can_be_read_and_its_tokens_are_requested_where_the_gateway_answers() {
        for file in RUN_FILES.iter().filter(|it| it.file.ends_with(".json")) {
            let read = read(file, &[]);
            assert_eq!(read["private_key"], "BEGIN\nkey\n");
            let url = read["token_uri"].as_str().expect("a URL");
            let is_answered = |(host, path): (&str, &str)| format!("https://{host}{path}") == url;
            assert!(token_endpoints().any(is_answered), "{url}");
        }
    }

    fn read(file: &RunFile, accounts: &[&str]) -> serde_json::Value {
        let accounts: Vec<_> = accounts.iter().map(|it| (*it).to_owned()).collect();
        let content = file.content(&accounts, || "BEGIN\nkey\n".to_owned());
        serde_json::from_str(&content).expect("JSON")
    }

    #[test]
    fn a_key_file_names_the_project_of_its_accounts_if_it_is_one() {
        let file = RUN_FILES.iter().find(|it| it.account_ends.is_some()).expect("one");
        let project =
            |accounts: &[&str]| read(file, accounts)["project_id"].as_str().map(str::to_owned);
        let (robot, other) =
            ("robot@acme-1.iam.gserviceaccount.com", "x@b.iam.gserviceaccount.com");
        for unknown in [
            &[][..],
            &[robot, other],
            &["ada@acme.test"],
            &["acme-1.iam.gserviceaccount.com"],
            &["robot@.iam.gserviceaccount.com"],
            &["robot@a\",\"b.iam.gserviceaccount.com"],
            &["robot@acme-1.iam.gserviceaccount.com.evil.test"],
        ] {
            assert_eq!(project(unknown), None, "{unknown:?}");
        }
        for known in [&[robot][..], &[robot, robot], &["ada@acme.test", robot]] {
            assert_eq!(project(known).as_deref(), Some("acme-1"), "{known:?}");
        }
    }
}
