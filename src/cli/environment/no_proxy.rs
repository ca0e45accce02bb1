//! Builds `NO_PROXY`: removes inherited entries that would send a placeholder directly to an API.

use std::net::IpAddr;

use ipnet::IpNet;

/// What is always reached directly, unless it is an API host of the agent.
const OWN: &[&str] = &["localhost", "127.0.0.1", "::1"];

/// Our entries and the inherited ones, without those that cover one of `hosts`: patterns such as
/// `api.example.com`, `*.example.com:8443`.
pub(crate) fn cleaned(inherited: &str, hosts: &[String]) -> String {
    let own = OWN.iter().copied();
    let theirs = inherited.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty());
    let mut kept: Vec<&str> = Vec::new();
    for entry in own.chain(theirs) {
        let covers = hosts.iter().any(|host| covers(entry, host));
        if !covers && !kept.contains(&entry) && is_plain(entry) {
            kept.push(entry);
        }
    }
    kept.join(",")
}

/// What a list of hosts can hold. Anything else may mean something to the shell or the file that the
/// list is written into.
fn is_plain(entry: &str) -> bool {
    entry.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]/*".contains(&b))
}

/// Whether some client would take `entry` to mean `host`. Clients differ: most take a bare name for
/// its subdomains as well, so that is what is assumed.
fn covers(entry: &str, host: &str) -> bool {
    if entry == "*" {
        return true;
    }
    let (entry, host) = (without_port(entry), without_port(host));
    if let Ok(network) = entry.parse::<IpNet>() {
        return host.parse::<IpAddr>().is_ok_and(|address| network.contains(&address));
    }
    let entry = name(entry);
    let (host, any_below) = match host.strip_prefix("*.") {
        Some(suffix) => (suffix.to_ascii_lowercase(), true),
        None => (name(host), false),
    };
    is_below(&host, &entry) || (any_below && is_below(&entry, &host))
}

/// `*.example.com`, `.example.com` and `example.com.` are one.
fn name(entry: &str) -> String {
    entry.trim_start_matches("*").trim_matches('.').to_ascii_lowercase()
}

fn is_below(name: &str, parent: &str) -> bool {
    name == parent || name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}

fn without_port(text: &str) -> &str {
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match text.rsplit_once(':') {
        // More than one colon: an IPv6 address without brackets.
        Some((host, port)) if !host.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => {
            host
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_would_bypass_the_gateway_are_removed() {
        let table = [
            ("*", "api.github.com"),
            ("api.github.com", "api.github.com"),
            ("API.GitHub.com", "api.github.com"),
            ("github.com", "api.github.com"),
            (".github.com", "api.github.com"),
            ("*.github.com", "api.github.com"),
            ("com", "api.github.com"),
            ("api.github.com:443", "api.github.com"),
            ("api.github.com.", "api.github.com"),
            ("acme.test", "api.acme.test:8443"),
            ("shop.myshopify.com", "*.myshopify.com"),
            ("myshopify.com", "*.myshopify.com"),
            ("10.0.0.0/8", "10.1.2.3"),
            ("localhost", "localhost:9000"),
            ("::1", "[::1]:9000"),
        ];
        for (entry, host) in table {
            let cleaned = cleaned(entry, &[host.to_owned()]);
            assert!(
                cleaned.split(',').all(|kept| kept != entry),
                "{entry} covers {host}: {cleaned}"
            );
        }
    }

    #[test]
    fn entries_for_other_hosts_stay() {
        let hosts = ["api.github.com".to_owned(), "*.myshopify.com".to_owned()];
        let inherited = "intranet.example, hub.com ,10.0.0.0/8,localhost,xmyshopify.com:80";
        let expected =
            "localhost,127.0.0.1,::1,intranet.example,hub.com,10.0.0.0/8,xmyshopify.com:80";
        assert_eq!(cleaned(inherited, &hosts), expected);
    }

    #[test]
    fn an_entry_that_is_not_a_host_is_dropped() {
        assert_eq!(cleaned("a'b,$(x),\"c\"", &[]), "localhost,127.0.0.1,::1");
    }
}
