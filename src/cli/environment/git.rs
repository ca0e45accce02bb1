//! git's configuration in the environment (git-config(1), `GIT_CONFIG_COUNT`): SSH URLs of hosts that the agent has a
//! connection for become HTTPS URLs, where the gateway injects the credential.

/// Prefix of the variables.
pub(super) const PREFIX: &str = "GIT_CONFIG_";

/// The entries of an inherited environment.
#[derive(Clone, Debug, Default)]
pub(super) struct InheritedEntries {
    /// The text of their number.
    count: String,
    /// How many of the last ones an earlier environment of ours added.
    ours: usize,
}

impl InheritedEntries {
    /// `text`: the value of a variable; empty if it is not set.
    pub(super) fn of(text: &impl Fn(&str) -> String) -> Self {
        let count = text(&format!("{PREFIX}COUNT"));
        let all = count.trim().parse::<usize>().unwrap_or(0);
        // We add all URLs of a host. One of them alone is the user's own entry.
        let are_ours = |hosts: &usize| {
            let entries = [0, 1, 2].map(|place| {
                let at = all - 3 * hosts + place;
                (text(&format!("{PREFIX}KEY_{at}")), text(&format!("{PREFIX}VALUE_{at}")))
            });
            are_of_a_host(&entries)
        };
        let ours = 3 * (1..=all / 3).take_while(are_ours).count();
        Self { count, ours }
    }
}

/// The variables that rewrite SSH URLs of `hosts` (`HOST`, or `HOST:PORT` of HTTPS), after the `inherited` entries, which
/// stay; those of an earlier environment are replaced. None without either, or if the inherited count is not a number: git
/// then reports it.
pub(super) fn variables(hosts: &[String], inherited: &InheritedEntries) -> Vec<(String, String)> {
    let count = inherited.count.trim();
    let count = if count.is_empty() { Ok(0) } else { count.parse::<usize>() };
    let is_empty = hosts.is_empty() && inherited.ours == 0;
    let (Ok(count), false) = (count, is_empty) else { return Vec::new() };
    let first = count - inherited.ours;
    let mut sorted: Vec<_> = hosts.iter().filter(|host| !host.starts_with('*')).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut found = Vec::new();
    for host in sorted {
        for ssh in ssh_urls(host) {
            found.push((format!("url.https://{host}/.insteadOf"), ssh));
        }
    }
    let count = (format!("{PREFIX}COUNT"), (first + found.len()).to_string());
    let entries = found.into_iter().enumerate().flat_map(|(at, (key, value))| {
        let at = first + at;
        [(format!("{PREFIX}KEY_{at}"), key), (format!("{PREFIX}VALUE_{at}"), value)]
    });
    std::iter::once(count).chain(entries).collect()
}

/// Beginnings of SSH URLs as `git clone` takes them; the user of every known forge is `git`.
fn ssh_urls(host: &str) -> [String; 3] {
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    [format!("git@{name}:"), format!("ssh://git@{name}/"), format!("ssh://git@{name}:22/")]
}

/// Whether these are the entries that [`variables`] makes of a host.
fn are_of_a_host(entries: &[(String, String); 3]) -> bool {
    let first = &entries[0].0;
    let host = first.strip_prefix("url.https://").and_then(|key| key.strip_suffix("/.insteadOf"));
    host.is_some_and(|host| {
        entries.iter().zip(ssh_urls(host)).all(|((key, value), url)| key == first && *value == url)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn lines(hosts: &[&str], inherited: &str) -> Vec<String> {
        let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
        let inherited = InheritedEntries { count: inherited.to_owned(), ours: 0 };
        let found = variables(&hosts, &inherited).into_iter();
        found.map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn no_git_variable_is_set_without_git_hosts_or_with_an_invalid_count() {
        assert_eq!(lines(&[], "2"), [""; 0]);
        assert_eq!(lines(&["git.test"], "many"), [""; 0], "git names the mistake");
    }

    #[test]
    fn ssh_urls_of_a_forge_become_https_urls() {
        assert_eq!(
            lines(&["git.test", "git.test"], ""),
            [
                "GIT_CONFIG_COUNT=3",
                "GIT_CONFIG_KEY_0=url.https://git.test/.insteadOf",
                "GIT_CONFIG_VALUE_0=git@git.test:",
                "GIT_CONFIG_KEY_1=url.https://git.test/.insteadOf",
                "GIT_CONFIG_VALUE_1=ssh://git@git.test/",
                "GIT_CONFIG_KEY_2=url.https://git.test/.insteadOf",
                "GIT_CONFIG_VALUE_2=ssh://git@git.test:22/",
            ]
        );
    }

    #[test]
    fn inherited_entries_stay_and_only_the_https_url_has_the_port() {
        let found = lines(&["git.test:8443"], " 2 ");
        assert_eq!(found[0], "GIT_CONFIG_COUNT=5");
        assert_eq!(found[1], "GIT_CONFIG_KEY_2=url.https://git.test:8443/.insteadOf");
        assert_eq!(found[2], "GIT_CONFIG_VALUE_2=git@git.test:");
        assert!(!found.iter().any(|line| line.contains("_0=") || line.contains("_1=")));
    }

    #[test]
    fn entries_of_an_earlier_environment_are_replaced_and_entries_of_the_user_stay() {
        let mut inherited = BTreeMap::from(
            [("KEY_0", "user.name"), ("VALUE_0", "a"), ("COUNT", "1")]
                .map(|(name, value)| (format!("{PREFIX}{name}"), value.to_owned())),
        );
        let entries = |inherited: &BTreeMap<String, String>| {
            InheritedEntries::of(&|name: &str| inherited.get(name).cloned().unwrap_or_default())
        };
        let hosts = ["git.test:8443".to_owned(), "other.test".to_owned()];
        let once = variables(&hosts, &entries(&inherited));
        inherited.extend(once.clone());
        assert_eq!(variables(&hosts, &entries(&inherited)), once);
        let count = (format!("{PREFIX}COUNT"), "1".to_owned());
        assert_eq!(variables(&[], &entries(&inherited)), [count], "the user's own entry");
        let own = |name: &str| {
            let text = match name.trim_start_matches(PREFIX) {
                "COUNT" => "1",
                "KEY_0" => "url.https://git.test/.insteadOf",
                _ => "git@git.test:",
            };
            text.to_owned()
        };
        assert!(variables(&[], &InheritedEntries::of(&own)).is_empty(), "the user's own URL");
        inherited.insert(format!("{PREFIX}VALUE_6"), "git@another.test:".to_owned());
        assert!(variables(&[], &entries(&inherited)).is_empty(), "the last one is not ours");
    }
}
