//! git's configuration in the environment (git-config(1), `GIT_CONFIG_COUNT`): SSH URLs of hosts that the agent has a
//! connection for become HTTPS URLs, where the gateway injects the credential.

/// Prefix of the variables.
pub(super) const PREFIX: &str = "GIT_CONFIG_";

/// The variables that rewrite SSH URLs of `hosts` (`HOST`, or `HOST:PORT` of HTTPS), after the `inherited` entries, which
/// stay. None without hosts, or if the inherited count is not a number: git then reports it.
pub(super) fn variables(hosts: &[String], inherited: &str) -> Vec<(String, String)> {
    let inherited = inherited.trim();
    let first = if inherited.is_empty() { Ok(0) } else { inherited.parse::<usize>() };
    let (Ok(first), false) = (first, hosts.is_empty()) else { return Vec::new() };
    let mut sorted: Vec<_> = hosts.iter().filter(|host| !host.starts_with('*')).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut found = Vec::new();
    for host in sorted {
        let name = host.split_once(':').map_or(host.as_str(), |(name, _)| name);
        // As `git clone` takes them; the user of every known forge is `git`.
        for ssh in
            [format!("git@{name}:"), format!("ssh://git@{name}/"), format!("ssh://git@{name}:22/")]
        {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(hosts: &[&str], inherited: &str) -> Vec<String> {
        let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
        let found = variables(&hosts, inherited).into_iter();
        found.map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn without_a_forge_git_is_left_alone() {
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
    fn inherited_entries_stay_and_the_port_is_that_of_https() {
        let found = lines(&["git.test:8443"], " 2 ");
        assert_eq!(found[0], "GIT_CONFIG_COUNT=5");
        assert_eq!(found[1], "GIT_CONFIG_KEY_2=url.https://git.test:8443/.insteadOf");
        assert_eq!(found[2], "GIT_CONFIG_VALUE_2=git@git.test:");
        assert!(!found.iter().any(|line| line.contains("_0=") || line.contains("_1=")));
    }
}
