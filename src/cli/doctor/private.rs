//! Finds real keys that agents of this user can read: those that clients have stored on this machine for hosts of
//! connections, and those in the current environment, which a program would inherit together with its placeholders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::installation::CheckedInstallation;
use super::report::DoctorReport;
use keyward_model::{Connection, Shown};
use keyward_rules::inject::placeholder;
use keyward_rules::provider::Catalogue;

/// Longer files are cut.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// A secret in a client's file.
struct StoredSecret {
    id: &'static str,
    file: PathBuf,
    line: usize,
    host: String,
}

/// Checks the credential files of git and curl (`.netrc`), gh and aws.
pub(super) fn check(connections: &[Shown<Connection>], report: &mut DoctorReport) {
    let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = path("HOME").unwrap_or_default();
    let gh = path("GH_CONFIG_DIR").or_else(|| path("XDG_CONFIG_HOME").map(|at| at.join("gh")));
    let gh = gh.unwrap_or_else(|| home.join(".config/gh")).join("hosts.yml");
    let aws = path("AWS_SHARED_CREDENTIALS_FILE").unwrap_or_else(|| home.join(".aws/credentials"));
    let netrc = path("NETRC").unwrap_or_else(|| home.join(".netrc"));
    let read = |file: &Path, entries: fn(&str) -> Vec<(usize, String)>, id| {
        let mut bytes = std::fs::read(file).unwrap_or_default();
        bytes.truncate(FILE_BYTES_MAX);
        let found = entries(&String::from_utf8_lossy(&bytes)).into_iter();
        let file = file.to_owned();
        found.map(move |(line, host)| StoredSecret { id, file: file.clone(), line, host })
    };
    let kept = read(&netrc, of_netrc, "netrc").chain(read(&gh, of_gh, "gh"));
    for kept in kept.chain(read(&aws, of_aws, "aws")) {
        let StoredSecret { id, file, line, host } = &kept;
        let is_of =
            |c: &&Shown<Connection>| c.facts.hosts.iter().any(|pattern| is_below(pattern, host));
        let Some(connection) = connections.iter().find(is_of) else { continue };
        let message = format!("{}:{line} holds a secret for {host}", file.display());
        let hint = match *id {
            "gh" => format!("`gh auth logout --hostname {host}`: agents can read it"),
            _ => "remove it: agents can read it".to_owned(),
        };
        let hint = format!("{hint}; connection {} replaces it", connection.name);
        report.warn(id, message, hint);
    }
}

/// Entries of `machine HOST` with a password; words may be on any line (`.netrc` of ftp(1)).
fn of_netrc(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut machine: Option<(usize, String)> = None;
    let lines = text.lines().enumerate();
    let words = lines.flat_map(|(number, line)| {
        let line = if line.trim_start().starts_with('#') { "" } else { line };
        line.split_ascii_whitespace().map(move |word| (number + 1, word))
    });
    let mut words = words.peekable();
    while let Some((line, word)) = words.next() {
        match word {
            "machine" => machine = words.next().map(|(_, host)| (line, host.to_owned())),
            "default" => machine = None,
            "login" | "account" => drop(words.next()),
            "password" => {
                words.next();
                found.extend(machine.take());
            }
            _ => {}
        }
    }
    found
}

/// Hosts with a token below them. Tokens in the system's keyring are not in the file.
fn of_gh(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut host = "";
    for (number, line) in text.lines().enumerate() {
        let name = line.trim_end().trim_end_matches(':');
        if !line.starts_with([' ', '\t', '#']) && !name.is_empty() {
            host = name;
        }
        let is_token = line.trim_start().starts_with("oauth_token:");
        if is_token && found.last().is_none_or(|(_, last)| last != host) {
            found.push((number + 1, host.to_owned()));
        }
    }
    found
}

fn of_aws(text: &str) -> Vec<(usize, String)> {
    let mut lines = text.lines().enumerate();
    let key = lines.find(|(_, line)| line.trim_start().starts_with("aws_secret_access_key"));
    key.map(|(number, _)| (number + 1, "amazonaws.com".to_owned())).into_iter().collect()
}

/// Whether a connection's pattern, such as `api.github.com` or `*.example.com:8443`, is `host` or a
/// subdomain of it.
fn is_below(pattern: &str, host: &str) -> bool {
    let name = pattern.trim_start_matches("*.");
    let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
    name == host || name.strip_suffix(host).is_some_and(|rest| rest.ends_with('.'))
}

const ID: &str = "environment";

/// Looks at the variables that the providers' SDKs read secrets from.
pub(super) fn check_variables(
    install: &CheckedInstallation<'_>,
    connections: &[Shown<Connection>],
    report: &mut DoctorReport,
) {
    let config = &install.config;
    let hidden = config.secret_variables();
    let mut real = 0;
    for (name, providers) in names(&config.catalogue()) {
        let value = std::env::var_os(&name).unwrap_or_default();
        // `keyward run` keeps from its program what the configuration reads.
        if hidden.contains(&&*name) || !is_real(value.as_encoded_bytes()) {
            continue;
        }
        real += 1;
        let message = format!("{name} holds a real key: programs and their agents inherit it");
        report.warn(ID, message, install.global.remedy(&remedy(&name, &providers, connections)));
    }
    if real == 0 {
        report.ok(ID, "no variable holds a provider's key");
    }
}

/// The variables of secret fields, each with the providers that read it.
fn names(catalogue: &Catalogue) -> BTreeMap<String, BTreeSet<String>> {
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for provider in catalogue.all() {
        let fields = provider.auth.iter().flat_map(|auth| &auth.fields);
        for name in fields.filter(|field| field.secret).flat_map(|field| &field.env) {
            names.entry(name.clone()).or_default().insert(provider.id.to_string());
        }
    }
    names
}

fn is_real(value: &[u8]) -> bool {
    !value.trim_ascii().is_empty() && placeholder::scan(value).is_empty()
}

fn remedy(name: &str, providers: &BTreeSet<String>, connections: &[Shown<Connection>]) -> String {
    let own = connections.iter().find(|connection| providers.contains(&connection.provider));
    if let Some(own) = own {
        return format!("`unset {name}`: connection {} has a placeholder for it", own.name);
    }
    let all: Vec<&str> = providers.iter().map(String::as_str).collect();
    let add = match &all[..] {
        [only] => format!("`keyward connection add {only} --name {only}`"),
        several => format!("`keyward connection add PROVIDER` ({})", several.join(", ")),
    };
    format!("keep it here instead: {add}, then `unset {name}`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_rules::inject::placeholder::Placeholder;

    #[test]
    fn passwords_in_a_netrc_are_found_in_any_line_layout() {
        let text = "# machine no password x\nmachine a.test login password password canary\n\
                    machine b.test\n  login x\n  password canary\nmachine c.test login x\n\
                    default login x password canary";
        assert_eq!(of_netrc(text), [(2, "a.test".to_owned()), (3, "b.test".to_owned())]);
    }

    #[test]
    fn a_token_of_gh_is_found_once_for_its_host() {
        let text = "github.com:\n    user: x\n    oauth_token: canary\n    users:\n        x:\n            \
                    oauth_token: canary\nghe.test:\n    user: y\n";
        assert_eq!(of_gh(text), [(3, "github.com".to_owned())]);
    }

    #[test]
    fn a_secret_matches_a_connection_to_a_subdomain_of_its_host_but_no_parent() {
        assert!(is_below("api.github.com", "github.com"));
        assert!(is_below("*.s3.amazonaws.com:443", "amazonaws.com"));
        assert!(!is_below("api.github.com", "hub.com"));
        assert!(!is_below("github.com", "api.github.com"));
    }

    #[test]
    fn placeholders_are_no_keys() {
        let placeholder = Placeholder::issue("sk-proj-", Some(60));
        assert!(!is_real(placeholder.as_str().as_bytes()));
        assert!(!is_real(b" "));
        assert!(is_real(b"sk-proj-abc"));
    }

    #[test]
    fn a_variable_of_an_account_name_is_not_searched_for_keys() {
        let names = names(&Catalogue::built_in());
        assert_eq!(names["OPENAI_API_KEY"], BTreeSet::from(["openai".to_owned()]));
        assert!(!names.contains_key("TWILIO_ACCOUNT_SID"));
    }

    #[test]
    fn a_variable_of_several_providers_gets_a_remedy_that_names_them() {
        let names = names(&Catalogue::built_in());
        let (name, providers) = ("AWS_SECRET_ACCESS_KEY", &names["AWS_SECRET_ACCESS_KEY"]);
        let hint = remedy(name, providers, &[]);
        assert!(hint.contains("`keyward connection add PROVIDER` ("), "{hint}");
        for provider in ["amazon-ses", "aws"] {
            assert!(hint.contains(provider), "{hint}");
        }
        let connection = serde_json::json!({
            "id": "con_1", "name": "cloud", "provider": "aws", "auth": "key", "environment": null,
            "variables": {}, "hosts": [], "state": "active",
            "created": "2025-01-02T03:04:05Z", "updated": "2025-01-02T03:04:05Z",
        });
        let connection = serde_json::from_value(connection).unwrap();
        let hint = remedy(name, providers, &[connection]);
        assert_eq!(
            hint,
            "`unset AWS_SECRET_ACCESS_KEY`: connection cloud has a placeholder for it"
        );
    }
}
